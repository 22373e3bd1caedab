/** What is measured one after the other, each with things of its own around it that are gone when it ends, however it does. */
import { type Ending, openEnding } from '../tests/running-program.ts';

export type Trials = {
  /**
   * Resolves to what `measure` does, or to what `failed` makes of why it rejected: what fails keeps nothing else from
   * being measured. By then what `measure` has noted in its `ending` is done.
   */
  run<Result>(measure: (ending: Ending) => Promise<Result>, failed: (why: string) => Result): Promise<Result>;
};

/**
 * From here on SIGINT and SIGTERM end the process with 2, once what the trial under way has noted is done. `whyLinesMax`:
 * an answer that was not as expected may be long.
 */
export function openTrials(whyLinesMax: number): Trials {
  const ending = openEnding();
  let stopped = false;
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => {
      stopped = true;
      void ending.end().finally(() => process.exit(2));
    });
  return {
    async run(measure, failed) {
      try {
        return await measure(ending);
      } catch (error) {
        // What has been taken from under it says nothing.
        if (stopped) await new Promise(() => {});
        const said = error instanceof Error ? error.message : String(error);
        return failed(said.split('\n').slice(0, whyLinesMax).join('\n'));
      } finally {
        await ending.end();
      }
    },
  };
}
