// Do jobs by RunPod's SDK for JavaScript, of which only the base URL is changed: node jobs.mjs BASE ENDPOINT KEY.
// The last line that it prints is a JSON object with what each call gave; the SDK itself prints while it waits.
import runpodSdk from "runpod-sdk";

const [baseUrl, name, key] = process.argv.slice(2);
const endpoint = runpodSdk(key, { baseUrl }).endpoint(name);
const messages = [{ role: "user", content: "What is the capital of France?" }];
const request = { input: { messages, sampling_params: { temperature: 0 } } };
const long = { messages, sampling_params: { max_tokens: 500, ignore_eos: true, temperature: 0 } };

const results = { sync: await endpoint.runSync(request) };
// After a second /runsync has nothing yet, and the SDK goes on by /status-sync.
results.waited = await endpoint.runSync({ input: long }, 1000);
const job = await endpoint.run(request);
results.run = job;
results.stream = [];
for await (const item of endpoint.stream(job.id)) results.stream.push(item);
results.status = await endpoint.status(job.id);
results.cancel = await endpoint.cancel(job.id);
results.purge = await endpoint.purgeQueue();
results.health = await endpoint.health();
console.log(JSON.stringify(results));
