// Works off no-op jobs with graphile-worker and prints jobs a second.
//   node bench.mjs postgres://… JOBS plain|fast
import { run, makeWorkerUtils, Logger } from "graphile-worker";

const [connectionString, count, mode] = process.argv.slice(2);
const jobs = Number(count);
const logger = new Logger(() => () => {});
const utils = await makeWorkerUtils({ connectionString, logger });
await utils.migrate();
await utils.withPgClient((client) =>
  client.query(
    `SELECT graphile_worker.add_jobs(ARRAY(
       SELECT json_populate_record(null::graphile_worker.job_spec,
                json_build_object('identifier', 'noop', 'payload', json_build_object('id', n)))
       FROM generate_series(1, $1::integer) AS n))`,
    [jobs],
  ),
);
await utils.withPgClient((client) => client.query("VACUUM ANALYZE"));

// What its documentation calls optimal conditions: https://worker.graphile.org/docs/performance
const batching =
  mode === "fast"
    ? { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 }
    : {};
let done = 0;
let finished;
const all = new Promise((resolve) => (finished = resolve));
const started = process.hrtime.bigint();
const runner = await run({
  preset: { worker: { connectionString, concurrentJobs: 24, maxPoolSize: 25, ...batching } },
  logger,
  noHandleSignals: true,
  taskList: {
    noop: async () => {
      if (++done === jobs) finished();
    },
  },
});
await all;
// The last completions are still being written.
for (let left = true; left; ) {
  const { rows } = await utils.withPgClient((client) =>
    client.query("SELECT EXISTS (SELECT 1 FROM graphile_worker.jobs) AS left"),
  );
  left = rows[0].left;
}
const seconds = Number(process.hrtime.bigint() - started) / 1e9;
await runner.stop();
await utils.release();
console.log(jobs / seconds);
