// Uses the npm package as its users do, and prints the outcome as JSON.
import { LMStudioClient, tool } from "@lmstudio/sdk";
import { z } from "zod";

const complaints = [];
const complain = (...messages) => complaints.push(messages.map(String).join(" "));
const logger = { debug() {}, info() {}, warn: complain, error: complain };
const client = new LMStudioClient({ baseUrl: `ws://${process.argv[2]}`, logger });

const failure = async (promise) => {
  try {
    await promise;
    return null;
  } catch (error) {
    return error.message;
  }
};
const loaded = async () => [
  ...(await client.llm.listLoaded()).map((model) => model.identifier),
  ...(await client.embedding.listLoaded()).map((model) => model.identifier),
];
const outcome = {};

outcome.downloaded = (await client.system.listDownloadedModels()).map((model) => model.modelKey).sort();

const progress = [];
const mine = await client.llm.load("tiny", {
  identifier: "mine",
  ttl: 60,
  config: { contextLength: 512, gpu: { ratio: "off" } },
  onProgress: (fraction) => progress.push(fraction),
});
outcome.progress = progress;
outcome.info = await mine.getModelInfo();
outcome.contextLength = await mine.getContextLength();
outcome.loadConfig = await mine.getLoadConfig();
outcome.duplicate = await failure(client.llm.load("tiny", { identifier: "mine" }));
outcome.unknown = await failure(client.llm.load("no-such-model"));
outcome.second = (await client.llm.load("tiny")).identifier;
outcome.found = (await client.llm.model("mine")).identifier;
outcome.any = (await client.llm.model()).identifier;

const onDemand = await client.llm.model("other");
outcome.onDemand = { identifier: onDemand.identifier, ttlMs: (await onDemand.getModelInfo()).ttlMs };
const embed = await client.embedding.model("text-embedding-embed");
outcome.loaded = await loaded();

const controller = new AbortController();
outcome.aborted = await failure(
  client.llm.load("huge", {
    signal: controller.signal,
    onProgress: () => controller.abort(new Error("changed my mind")),
  }),
);

const prediction = mine.respond("hi");
const fragments = [];
for await (const { content } of prediction) {
  fragments.push(content);
}
const result = await prediction.result();
outcome.answer = { fragments, content: result.content, stopReason: result.stats.stopReason };
outcome.completed = (await mine.complete("Once")).content;
outcome.tokens = [await mine.tokenize("abc"), await mine.tokenize(["a", "b"]), await mine.countTokens("abc")];
outcome.prompt = await mine.applyPromptTemplate([{ role: "user", content: "hi" }]);

const talker = await client.llm.load("talker", {
  // A large context, because an endless answer fills the default one in an instant.
  config: { contextLength: 65536 },
});
const endless = talker.respond("hi");
for await (const fragment of endless) {
  await endless.cancel();
}
outcome.cancelled = (await endless.result()).stats.stopReason;

const dice = await client.llm.load("dice");
outcome.structured = (
  await dice.respond("hi", { structured: z.object({ count: z.enum(["one", "two"]) }).strict() })
).parsed;

const calls = [];
const add = tool({
  name: "add",
  description: "Add two numbers.",
  parameters: { a: z.number(), b: z.number() },
  implementation: ({ a, b }) => {
    calls.push([a, b]);
    return a + b;
  },
});
const caller = await client.llm.load("caller");
const said = [];
const { rounds } = await caller.act("1 + 2?", [add], { onMessage: (message) => said.push(message.getText()) });
outcome.acted = { rounds, calls, said };

outcome.embedding = (await embed.embed("hello")).embedding.length;
outcome.embeddings = (await embed.embed(["a", "b"])).length;

await mine.unload();
await client.llm.unload("tiny");
outcome.unloaded = await failure(client.llm.unload("mine"));
outcome.noLonger = await failure(mine.respond("hi"));
for (const model of [...(await client.llm.listLoaded()), ...(await client.embedding.listLoaded())]) {
  await model.unload();
}
outcome.left = await loaded();
outcome.complaints = complaints;
console.log(JSON.stringify(outcome));
await client[Symbol.asyncDispose]?.();
