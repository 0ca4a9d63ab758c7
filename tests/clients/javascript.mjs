// The documents' example with the official JavaScript client; its result goes out as JSON.
//
//     javascript.mjs run      create and wait, by file contents, by version, with a webhook
//     javascript.mjs check    is the webhook on standard input signed by the service?

import { readFile } from "node:fs/promises";
import Replicate, { validateWebhook } from "replicate";

const { BASE, MODEL, PORTRAIT, SPEECH, WEBHOOK } = process.env;
const replicate = new Replicate({ baseUrl: BASE });

async function run() {
  const [portrait, speech] = await Promise.all([readFile(PORTRAIT), readFile(SPEECH)]);
  const output = await replicate.run(MODEL, { input: { image: portrait, audio: speech } });
  const video = Buffer.from(await (await output.blob()).arrayBuffer());

  const [owner, name] = MODEL.split("/");
  const model = await replicate.models.get(owner, name);
  const image = await replicate.files.create(portrait);
  const audio = await replicate.files.create(speech, { of: "somebody" });
  const input = { image: image.urls.get, audio: audio.urls.get };
  const created = await replicate.predictions.create({
    version: model.latest_version.id,
    input,
    webhook: WEBHOOK,
    webhook_events_filter: ["completed"],
  });
  const prediction = await replicate.wait(created, { interval: 100 });

  let stopped = await replicate.predictions.create({ model: MODEL, input });
  await replicate.predictions.cancel(stopped.id);
  stopped = await replicate.wait(stopped, { interval: 100 });
  let refused = "";
  try {
    await replicate.predictions.create({ model: MODEL, input: { image: input.image } });
  } catch (error) {
    refused = `${error.response.status} ${/"title": *"([^"]*)"/.exec(error.message)?.[1]}`;
  }
  const listed = [];
  for await (const batch of replicate.paginate(replicate.predictions.list)) {
    listed.push(...batch.map((one) => one.id));
  }
  return {
    kind: output.constructor.name,
    ftyp: video.subarray(4, 8).toString(),
    first_status: created.status,
    status: prediction.status,
    output: prediction.output,
    id: prediction.id,
    stopped: stopped.status,
    refused,
    listed,
    files: (await replicate.files.list()).results.length,
    deleted: await replicate.files.delete(image.id),
    account: (await replicate.accounts.current()).username,
    secret: (await replicate.webhooks.default.secret.get()).key,
  };
}

async function check() {
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  const { headers, body, secret } = JSON.parse(Buffer.concat(chunks).toString());
  return {
    valid: await validateWebhook({ headers, body }, secret),
    changed: await validateWebhook({ headers, body: `${body} ` }, secret),
  };
}

process.stdout.write(JSON.stringify(await (process.argv[2] === "run" ? run() : check())));
