import { DisposableDelegate, IDisposable } from '@lumino/disposable';
import { ISignal, Signal } from '@lumino/signaling';

import { Problem, send } from './request';

export type Topic = 'models' | 'deployments' | 'reviews' | 'runs';

interface IDigests {
  digests: Partial<Record<Topic, string>>;
  problem: { title: string; detail: string; remedy: string } | null;
}

const FIRST_WAIT_MS = 500; // before the first new attempt; doubles for each one after it
const LONGEST_WAIT_MS = 8000;
const SILENCE_MS = 12000; // the server speaks every 5 s: this long a silence is a dead connection

const LOST = 'The connection to your notebook server is lost.';

/**
 * Follows the server's events while anything is shown.
 *
 * An event carries a digest of each topic; whoever shows a topic asks for it again when its digest changes. On a new
 * connection the digests come at once, so nothing that happened meanwhile is missed, and nothing has to be replayed.
 */
export class Live {
  digests: Partial<Record<Topic, string>> = {};
  problem: Problem | null = null;

  private readonly _changed = new Signal<Live, void>(this);
  private _shown = 0;
  private _stop: AbortController | null = null;

  get changed(): ISignal<Live, void> {
    return this._changed;
  }

  /** Follow until the result is disposed of. */
  follow(): IDisposable {
    if (this._shown++ === 0) {
      this._stop = new AbortController();
      void this._run(this._stop.signal);
    }
    return new DisposableDelegate(() => {
      if (--this._shown === 0) {
        this._stop?.abort();
      }
    });
  }

  private async _run(stop: AbortSignal): Promise<void> {
    let wait = FIRST_WAIT_MS;
    while (!stop.aborted) {
      try {
        await this._listen(stop, () => {
          wait = FIRST_WAIT_MS;
        });
      } catch (reason) {
        if (stop.aborted) {
          return;
        }
        this._note({}, reason instanceof Problem ? reason : new Problem('No connection', LOST, ''));
      }
      await pause(wait, stop);
      wait = Math.min(2 * wait, LONGEST_WAIT_MS);
    }
  }

  private async _listen(stop: AbortSignal, heard: () => void): Promise<void> {
    const connection = new AbortController();
    const end = () => connection.abort();
    stop.addEventListener('abort', end);
    window.addEventListener('offline', end); // a stream does not notice by itself
    let silence = window.setTimeout(end, SILENCE_MS);
    try {
      const response = await send('events', { signal: connection.signal });
      if (!response.ok || !response.body) {
        throw new Problem('No connection', `Your notebook server answered ${response.status}.`, 'Reload the page.');
      }
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ''; ; ) {
        const { done, value } = await reader.read();
        if (done) {
          return;
        }
        window.clearTimeout(silence);
        silence = window.setTimeout(end, SILENCE_MS);
        heard();
        const messages = (rest + value).split('\n\n');
        rest = messages.pop() ?? '';
        messages.forEach(message => this._take(message));
      }
    } finally {
      window.clearTimeout(silence);
      stop.removeEventListener('abort', end);
      window.removeEventListener('offline', end);
      connection.abort();
    }
  }

  private _take(message: string): void {
    const data = message.split('\n').find(line => line.startsWith('data: '));
    if (data) {
      const { digests, problem } = JSON.parse(data.slice('data: '.length)) as IDigests;
      this._note(digests, problem && new Problem(problem.title, problem.detail, problem.remedy));
    }
  }

  private _note(digests: IDigests['digests'], problem: Problem | null): void {
    const before = JSON.stringify([this.digests, this.problem?.detail]);
    this.digests = { ...this.digests, ...digests };
    this.problem = problem;
    if (JSON.stringify([this.digests, this.problem?.detail]) !== before) {
      this._changed.emit();
    }
  }
}

function pause(ms: number, stop: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    const end = () => {
      window.clearTimeout(timer);
      window.removeEventListener('online', end);
      resolve();
    };
    const timer = window.setTimeout(end, ms);
    window.addEventListener('online', end, { once: true }); // the network is back: do not wait for the rest
    stop.addEventListener('abort', end, { once: true });
  });
}
