// Receives the events that the server forwards (COGNIGY_FORWARD_URL), with nothing but node:http.
//
//     WEBHOOK_SECRET=whsec_… PORT=9000 node receiver.mjs

import { createServer } from "node:http";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

const webhook = new Webhook(process.env.WEBHOOK_SECRET);

// The ids of the messages that were handled. A real receiver keeps them in its database, writes an id in
// the transaction that also does the work, and deletes ids that are a few days old.
const handled = new Set();

// An event and its contact have at most 1 MiB each, as the server is set by default.
const MAX_BODY_BYTES = 4 * 1024 * 1024;

// Does the work. If it throws an error, the answer is 500, and the message comes again.
function handle({ type, data }) {
  console.log(`${type} ${data.event_id} of ${data.contact_key}: ${JSON.stringify(data.contact)}`);
}

async function receive(request) {
  if (request.method !== "POST" || request.url.split("?")[0] !== "/events") return 404;

  // The signature covers the bytes of the body, so they are verified before anything reads them.
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > MAX_BODY_BYTES) return 413;
    chunks.push(chunk);
  }
  let message;
  try {
    message = webhook.verify(Buffer.concat(chunks), request.headers);
  } catch (error) {
    // The server does not send a message again that was answered with 401.
    if (error instanceof WebhookVerificationError) return 401;
    throw error;
  }

  // A message comes again if the answer to it was lost. It has the same id each time.
  const id = request.headers["webhook-id"];
  if (handled.has(id)) {
    console.log(`${id} was handled before`);
    return 204;
  }
  handle(message);
  handled.add(id);
  return 204;
}

createServer(async (request, response) => {
  try {
    response.statusCode = await receive(request);
  } catch (error) {
    console.error(error);
    response.statusCode = 500;
  }
  response.end();
}).listen(Number(process.env.PORT ?? 9000), "127.0.0.1");
