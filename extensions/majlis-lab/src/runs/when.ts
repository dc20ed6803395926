/** When a pipeline shall run, as it is chosen; pure. */
import { When } from '../api/server';

export type Often = 'now' | 'hour' | 'day' | 'weekday' | 'week' | 'cron' | 'table';

export interface IChoice {
  often: Often;
  time: string; // HH:MM, in UTC
  text: string; // five fields, or a table
  name: string; // of the schedule
}

export const OFTEN: [Often, string][] = [
  ['now', 'Now'],
  ['hour', 'Every hour'],
  ['day', 'Every day'],
  ['weekday', 'Monday to Friday'],
  ['week', 'Every Monday'],
  ['cron', 'At other times'],
  ['table', 'When a table has a new version']
];

export const AT_A_TIME: ReadonlySet<Often> = new Set(['hour', 'day', 'weekday', 'week']);

/** What the control plane of schedules understands; null for a run that starts now. */
export function whenOf(choice: IChoice): When | null {
  const [hour, minute] = choice.time.split(':').map(Number);
  switch (choice.often) {
    case 'now':
      return null;
    case 'hour':
      return { cron: `${minute} * * * *` };
    case 'day':
      return { cron: `${minute} ${hour} * * *` };
    case 'weekday':
      return { cron: `${minute} ${hour} * * 1-5` };
    case 'week':
      return { cron: `${minute} ${hour} * * 1` };
    case 'cron':
      return { cron: choice.text.trim() };
    case 'table':
      return { table: choice.text.trim() };
  }
}

/** A name that a schedule may have: small letters, digits, - and _. */
export function nameOf(title: string): string {
  return title.toLowerCase().replace(/[^a-z0-9_-]+/g, '-').replace(/^[-_]+|-+$/g, '').slice(0, 63) || 'schedule';
}
