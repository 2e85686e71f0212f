// Prints the number of downloaded models, or why they cannot be listed, as JSON.
import { LMStudioClient } from "@lmstudio/sdk";

const [address, apiToken] = process.argv.slice(2);
const logger = { debug() {}, info() {}, warn() {}, error() {} };
const client = new LMStudioClient({ baseUrl: `ws://${address}`, logger, ...(apiToken && { apiToken }) });
const listed = client.system.listDownloadedModels().then((models) => models.length, (error) => error.message);
console.log(JSON.stringify(await listed));
process.exit(0);
