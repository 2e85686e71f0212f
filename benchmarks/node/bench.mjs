// One hot path with the official package for Node: node bench.mjs PATH HOST
import { LMStudioClient } from "@lmstudio/sdk";

const [path, host] = process.argv.slice(2);
const silent = { debug() {}, info() {}, warn() {}, error() {} };
const client = new LMStudioClient({ baseUrl: `ws://${host}`, logger: silent });
const figures = {};

async function meter(name, units, work) {
  const cpu = process.cpuUsage();
  const wall = process.hrtime.bigint();
  await work();
  const { user, system } = process.cpuUsage(cpu);
  figures[`${name}.cpu`] = (user + system) / 1e6 / units;
  figures[`${name}.wall`] = Number(process.hrtime.bigint() - wall) / 1e9 / units;
}

async function times(count, work) {
  for (let i = 0; i < count; i++) await work();
}

const paths = {
  async calls() {
    const llm = await client.llm.model("tiny");
    const call = () => llm.countTokens("How many?");
    const atOnce = (tasks, each) => Promise.all(Array.from({ length: tasks }, () => times(each, call)));
    await times(100, call);
    await meter("sequential", 1000, () => times(1000, call));
    await atOnce(100, 2);
    await meter("hundred", 2000, () => atOnce(100, 20));
    await meter("thousand", 3000, () => atOnce(1000, 3));
  },
  async loading() {
    const load = (key) => client.llm.load(key, { onProgress() {}, verbose: false });
    await load("tiny:10");
    await meter("load", 5, () => times(5, () => load("tiny:1000")));
  },
  async stream() {
    const llm = await client.llm.model("tiny");
    const read = async (order) => {
      let count = 0;
      for await (const { content } of llm.respond(order)) count += content.length > 0;
      return count;
    };
    await read("n=100 mode=burst");
    await meter("stream", 10000, async () => {
      if ((await read("n=10000 mode=burst")) !== 10000) throw new Error("fragments are missing");
    });
  },
  async embedding() {
    const model = await client.embedding.model("tiny");
    const texts = Array(100).fill("What is the meaning of life?");
    await model.embed(texts);
    await meter("one", 100, () => times(100, () => model.embed(texts[0])));
    await meter("hundred", 3, () => times(3, () => model.embed(texts)));
  },
  async listing() {
    await client.system.listDownloadedModels();
    await meter("list", 50, () => times(50, () => client.system.listDownloadedModels()));
  },
};

await paths[path]();
console.log(JSON.stringify(figures));
process.exit(0);
