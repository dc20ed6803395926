import * as React from 'react';

import { Live, Topic } from '../api/live';
import { Problem } from '../api/request';
import { useLab } from './lab';

const AGAIN_MS = 4000; // until what nobody answered is asked for again

export interface IResource<T> {
  value: T | undefined; // the last one that came, also while a newer one is on its way
  problem: Problem | null;
  reload: () => void;
}

/** What `load` gives, asked for again whenever one of the topics changes. */
export function useResource<T>(
  topics: readonly Topic[],
  load: (signal: AbortSignal) => Promise<T>,
  key = ''
): IResource<T> {
  const live = useLab().live;
  const digest = useDigest(live, topics);
  const [attempt, setAttempt] = React.useState(0);
  const [state, setState] = React.useState<{ key: string; value?: T; problem: Problem | null }>({
    key,
    problem: null
  });
  const latest = React.useRef(load);
  latest.current = load;

  React.useEffect(() => {
    const stop = new AbortController();
    latest.current(stop.signal).then(
      value => {
        if (!stop.signal.aborted) {
          setState({ key, value, problem: null });
        }
      },
      reason => {
        if (!stop.signal.aborted) {
          setState(before => ({
            key,
            problem: Problem.of(reason),
            ...(before.key === key && before.value !== undefined ? { value: before.value } : {})
          }));
        }
      }
    );
    return () => stop.abort();
  }, [digest, attempt, key]);

  const reload = React.useCallback(() => setAttempt(count => count + 1), []);
  React.useEffect(() => {
    if (!state.problem?.passes) {
      return;
    }
    const again = window.setTimeout(reload, AGAIN_MS);
    return () => window.clearTimeout(again);
  }, [state, reload]);
  return { value: state.key === key ? state.value : undefined, problem: state.problem, reload };
}

/** Changes whenever one of the topics does. */
function useDigest(live: Live, topics: readonly Topic[]): string {
  const read = () => topics.map(topic => live.digests[topic] ?? '').join(' ');
  const [digest, setDigest] = React.useState(read);
  React.useEffect(() => {
    const look = () => setDigest(read());
    live.changed.connect(look);
    look();
    return () => {
      live.changed.disconnect(look);
    };
  }, [live, topics.join(' ')]);
  return digest;
}

/** Whether the server and the control plane can be reached; null when all is well. */
export function useLiveProblem(): Problem | null {
  const live = useLab().live;
  const [problem, setProblem] = React.useState(live.problem);
  React.useEffect(() => {
    const look = () => setProblem(live.problem);
    live.changed.connect(look);
    look();
    return () => {
      live.changed.disconnect(look);
    };
  }, [live]);
  return problem;
}

export interface IAction {
  busy: boolean;
  problem: Problem | null;
  run: () => void;
}

/** Something a person asks for: busy while it lasts, and its refusal where there is one. */
export function useAction(act: () => Promise<unknown>): IAction {
  const [busy, setBusy] = React.useState(false);
  const [problem, setProblem] = React.useState<Problem | null>(null);
  const shown = React.useRef(true);
  React.useEffect(() => {
    shown.current = true;
    return () => {
      shown.current = false;
    };
  }, []);
  const run = () => {
    setBusy(true);
    setProblem(null);
    act()
      .catch(reason => shown.current && setProblem(Problem.of(reason)))
      .finally(() => shown.current && setBusy(false));
  };
  return { busy, problem, run };
}
