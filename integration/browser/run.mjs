// Runs scenarios as the Go test asks for them: names on standard input, one a line; results as JSON on standard
// output, one a line. The first line lists the scenarios.
import { createInterface } from 'node:readline';
import * as lib from './lib.mjs';
import loginScenarios from './login.mjs';
import sessionScenarios from './session.mjs';
import pageScenarios from './pages.mjs';
import leakScenarios from './leak.mjs';
import clientScenarios from './clients.mjs';

const scenarios = { ...loginScenarios, ...sessionScenarios, ...pageScenarios, ...leakScenarios, ...clientScenarios };
const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

await lib.start();
say({ scenarios: Object.keys(scenarios) });
for await (const name of createInterface({ input: process.stdin })) {
  const failures = [];
  const attempt = async (step) => {
    try {
      await step();
    } catch (error) {
      failures.push(error.stack);
    }
  };
  await attempt(async () => {
    await lib.begin();
    await scenarios[name]();
  });
  await attempt(lib.end);
  say({ name, failures });
}
await lib.stop();
