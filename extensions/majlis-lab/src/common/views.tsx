import * as React from 'react';

import { Problem } from '../api/request';
import { sentence } from './words';

export type Tone = 'good' | 'bad' | 'busy' | 'warn' | 'quiet';

export function Badge(props: { tone: Tone; title?: string; children: React.ReactNode }): JSX.Element {
  return (
    <span className={`majlis-Badge majlis-mod-${props.tone}`} title={props.title}>
      {props.children}
    </span>
  );
}

/** A coloured dot that also says what it means. */
export function Dot(props: { tone: Tone; label: string }): JSX.Element {
  return <span className={`majlis-Dot majlis-mod-${props.tone}`} role="img" aria-label={props.label} title={props.label} />;
}

export function ProblemView(props: { problem: Problem; retry?: () => void }): JSX.Element {
  const { problem, retry } = props;
  return (
    <div className="majlis-Problem" role="alert">
      <strong>{problem.title}</strong>
      <p>{sentence(problem.detail)}</p>
      {problem.remedy && <p className="majlis-quiet">{problem.remedy}</p>}
      {retry && (
        <button type="button" className="majlis-Button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}

export function Empty(props: { title: string; children?: React.ReactNode }): JSX.Element {
  return (
    <div className="majlis-Empty">
      <strong>{props.title}</strong>
      {props.children}
    </div>
  );
}

const LONG_MS = 6000; // until a person wonders whether anything happens

/** Grey bars where rows are about to be; in words where that takes long. */
export function Loading(props: { label: string }): JSX.Element {
  const [long, setLong] = React.useState(false);
  React.useEffect(() => {
    const timer = window.setTimeout(() => setLong(true), LONG_MS);
    return () => window.clearTimeout(timer);
  }, []);
  return (
    <div className="majlis-Loading" role="status" aria-label={props.label}>
      {[72, 54, 63].map(width => (
        <span key={width} style={{ width: `${width}%` }} />
      ))}
      {long && <p className="majlis-quiet">This takes longer than it should. Nothing is lost; it goes on by itself.</p>}
    </div>
  );
}

export function Bar(props: { share: number; tone: Tone; label: string }): JSX.Element {
  const percent = Math.round(100 * Math.min(1, Math.max(0, props.share)));
  return (
    <div
      className={`majlis-Bar majlis-mod-${props.tone}`}
      role="progressbar"
      aria-label={props.label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={percent}
    >
      <span style={{ width: `${percent}%` }} />
    </div>
  );
}
