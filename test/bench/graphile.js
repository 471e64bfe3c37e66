// graphile-worker's own claim, for claims.py: what it takes to compare with, and nothing of its code here.
//   node graphile.js DIR   DIR: where npm has installed it; the database is that of the PG… variables
// Runs its migrations, and prints the statement by which a worker claims one job, with its parameters as
// $1 (the worker) and $2 (ids of tasks).
const path = require("path");

async function main(directory) {
  const installed = path.join(path.resolve(directory), "node_modules", "graphile-worker");
  const { runMigrations } = require(installed);
  const { batchGetJobs } = require(path.join(installed, "dist/sql/getJobs.js"));
  const { Pool } = require(path.join(path.resolve(directory), "node_modules", "pg"));

  const pgPool = new Pool();
  pgPool.on("error", () => {});
  pgPool.on("connect", (connection) => connection.on("error", () => {}));
  await runMigrations({ pgPool });
  let claim = "";
  const client = {
    query: async (query) => {
      claim = query.text ?? query;
      return { rows: [{ id: 1, identifier: "claim" }] };
    },
  };
  const options = {
    escapedWorkerSchema: '"graphile_worker"',
    workerSchema: "graphile_worker",
    resolvedPreset: { worker: { preparedStatements: true, useNodeTime: false } },
    logger: console,
  };
  const withClient = (callback) => callback(client);
  withClient.withRetries = withClient;
  await batchGetJobs(options, withClient, { claim: () => {} }, "pool", null, 1);
  await pgPool.end();
  console.log(claim);
}

main(process.argv[2]).catch((error) => {
  console.error(error);
  process.exit(1);
});
