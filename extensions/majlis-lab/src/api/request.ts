import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

const PASSING: ReadonlySet<number> = new Set([0, 502, 503, 504]); // 0: nobody answered

/** A refusal or a failure, in words for the person in front of it. */
export class Problem extends Error {
  constructor(
    readonly title: string,
    readonly detail: string,
    readonly remedy: string,
    readonly status = 0
  ) {
    super(`${title}: ${detail}`);
  }

  /** Whether it is over by itself once something is back; a refusal is not. */
  get passes(): boolean {
    return PASSING.has(this.status);
  }

  static of(reason: unknown): Problem {
    return reason instanceof Problem
      ? reason
      : new Problem('Something went wrong', String(reason), 'Try again, or reload the page.');
  }
}

export interface IRequest {
  method?: 'GET' | 'POST' | 'PUT' | 'DELETE';
  body?: unknown;
  signal?: AbortSignal;
}

/** Ask the server extension for `path` (below `majlis/`); throws a Problem. */
export async function requestAPI<T>(path: string, request: IRequest = {}): Promise<T> {
  const response = await checked(await send(path, request));
  return (await response.json()) as T;
}

/** Every row of a listing, page after page, as the pages' `next` links say. */
export async function listed<T>(path: string, request: IRequest = {}): Promise<T[]> {
  const rows: T[] = [];
  for (let query = ''; ; ) {
    const response = await checked(await send(path + query, request));
    rows.push(...((await response.json()) as T[]));
    const next = /<(\?[^>]*)>; rel="next"/.exec(response.headers.get('Link') ?? '');
    if (next?.[1] === undefined) {
      return rows;
    }
    query = next[1];
  }
}

/** The response where it is no refusal; throws a Problem where it is. */
export async function checked(response: Response): Promise<Response> {
  if (!response.ok) {
    throw await problemOf(response);
  }
  return response;
}

/** The response itself, for streams and pages. */
export async function send(path: string, request: IRequest = {}): Promise<Response> {
  const settings = ServerConnection.makeSettings();
  const init: RequestInit = { method: request.method ?? 'GET' };
  if (request.body !== undefined) {
    init.body = JSON.stringify(request.body);
    init.headers = { 'Content-Type': 'application/json' };
  }
  if (request.signal) {
    init.signal = request.signal;
  }
  try {
    return await ServerConnection.makeRequest(URLExt.join(settings.baseUrl, 'majlis', path), init, settings);
  } catch (reason) {
    if (request.signal?.aborted) {
      throw reason;
    }
    throw new Problem(
      'No connection',
      'Your notebook server does not answer.',
      'It is tried again by itself. If this stays, restart your server from the hub.'
    );
  }
}

async function problemOf(response: Response): Promise<Problem> {
  const said = (await response.json().catch(() => ({}))) as Record<string, unknown>;
  const text = (name: string, otherwise: string) =>
    typeof said[name] === 'string' && said[name] ? (said[name] as string) : otherwise;
  return new Problem(
    text('title', response.statusText || `Error ${response.status}`),
    text('detail', 'The server gave no reason.'),
    text('remedy', 'Try again, or reload the page.'),
    response.status
  );
}
