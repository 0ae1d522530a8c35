// Verifies captured deliveries with the official JavaScript library. Reads JSON lines, writes `ok` or `refused` each.
const { Webhook, WebhookVerificationError } = require("standardwebhooks");

for (const line of require("fs").readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  const { secret, body, headers } = JSON.parse(line);
  try {
    new Webhook(secret).verify(body, headers);
    console.log("ok");
  } catch (error) {
    if (!(error instanceof WebhookVerificationError)) throw error;
    console.log("refused");
  }
}
