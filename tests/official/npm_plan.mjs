// Uses features that only version 2 of the npm package has (download plans, engines), and prints the outcome as JSON.
import { LMStudioClient } from "@lmstudio/sdk";

const [address, user, repo] = process.argv.slice(2);
const complaints = [];
const complain = (...messages) => complaints.push(messages.map(String).join(" "));
const logger = { debug() {}, info() {}, warn: complain, error: complain };
const client = new LMStudioClient({ baseUrl: `ws://${address}`, logger });

const failure = async (promise) => {
  try {
    await promise;
    return null;
  } catch (error) {
    return error.message;
  }
};
const source = { type: "huggingface", user, repo };
const outcome = {};

// -- engines
outcome.engines = await client.runtime.engine.list();
outcome.selections = [...(await client.runtime.engine.getSelections())];
const [engine] = outcome.engines;
outcome.selected = await failure(client.runtime.engine.select(engine, "GGUF"));
outcome.removed = await failure(client.runtime.engine.remove(engine));
outcome.survey = await client.runtime.surveyHardware();
outcome.searched = await failure(client.runtime.extensions.search("llama.cpp"));

// -- plans
const first = client.repository.createModelDownloadPlanner({ source });
await first.untilReady();
outcome.plan = first.getPlan();
await first.selectModelDownloadOption({ nodeIndex: 0, downloadOptionIndex: 1 });
outcome.chosen = first.getPlan().nodes[0].selected.quantName;
outcome.finalized = 0;
const updates = [];
await first.download({
  onProgress: (update) => updates.push(update.downloadedBytes),
  onStartFinalizing: () => (outcome.finalized += 1),
});
outcome.updates = updates;
outcome.here = (await client.system.listDownloadedModels()).map((model) => model.path);

const second = client.repository.createModelDownloadPlanner({
  source,
  resolutionPreference: [{ type: "quantName", quantName: "Q4_K_M" }],
});
await second.untilReady();
outcome.wished = second.getPlan().nodes[0].selected.quantName;
await second.selectAlreadyOwnedModel({ nodeIndex: 0 });
outcome.owned = second.getPlan().nodes[0];
await second.download({});

const controller = new AbortController();
const third = client.repository.createModelDownloadPlanner({ source, signal: controller.signal });
controller.abort();
outcome.cancelled = await failure(third.untilReady());
const missing = client.repository.createModelDownloadPlanner({ source: { ...source, repo: "nothing" } });
outcome.missing = await failure(missing.untilReady());
const artifact = client.repository.createArtifactDownloadPlanner({ owner: "acme", name: "plugin" });
outcome.artifact = await failure(artifact.untilReady());

// -- the account, files
outcome.account = [
  await client.repository.isAuthenticated(),
  (await client.repository.getAuthenticationStatus()).type,
];
const text = await client.files.prepareFileBase64("a.txt", btoa("The cat sleeps.\n\nThe dog barks."));
outcome.parsed = (await client.files.parseDocument(text)).content;
const embed = await client.embedding.model("text-embedding-embed");
const chunkingMethod = { type: "recursive-v1", chunkSize: 20, chunkOverlap: 0 };
const found = await client.files.retrieve("The dog barks.", [text], { embeddingModel: embed, chunkingMethod, limit: 1 });
outcome.retrieved = found.entries.map(({ content, source }) => [content, source.name]);
await embed.unload();

outcome.complaints = complaints;
console.log(JSON.stringify(outcome));
process.exit(0);
