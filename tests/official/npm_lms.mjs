// Prints what `lms ls --json`, `lms ps --json` or `lms load --estimate-only` finds with the same calls, as JSON.
import { LMStudioClient } from "@lmstudio/sdk";

const [address, command, ...rest] = process.argv.slice(2);
const logger = { debug() {}, info() {}, warn: console.error, error: console.error };
const client = new LMStudioClient({ baseUrl: `ws://${address}`, logger });
const describe = async (model) => ({
  ...(await model.getModelInfo()),
  context: await model.getContextLength(),
  state: await model.getInstanceProcessingState(),
});
const commands = {
  ls: () => client.system.listDownloadedModels(),
  ps: async () =>
    Promise.all([...(await client.llm.listLoaded()), ...(await client.embedding.listLoaded())].map(describe)),
  estimate: (key, contextLength) =>
    client.llm.estimateResourcesUsage(key, { contextLength: Number(contextLength), gpu: { ratio: 0 } }),
};
console.log(JSON.stringify(await commands[command](...rest)));
process.exit(0);
