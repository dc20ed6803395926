/** Times and counts as people say them. */

const UNITS: [Intl.RelativeTimeFormatUnit, number][] = [
  ['day', 86400],
  ['hour', 3600],
  ['minute', 60]
];
const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });
const brief = new Intl.RelativeTimeFormat('en', { numeric: 'always', style: 'narrow' });

/** "3 minutes ago", "in 2 days". */
export function ago(iso: string): string {
  return since(iso, relative);
}

/** The same where there is little room: "3min ago", "in 2d". */
export function agoBriefly(iso: string): string {
  return since(iso, brief);
}

function since(iso: string, format: Intl.RelativeTimeFormat): string {
  const seconds = (Date.parse(iso) - Date.now()) / 1000;
  for (const [unit, size] of UNITS) {
    if (Math.abs(seconds) >= size) {
      return format.format(Math.trunc(seconds / size), unit);
    }
  }
  return 'just now';
}

/** "42 s", "3 min 20 s". */
export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/** "12 MB", "0.4 MB". */
export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toLocaleString('en', { maximumSignificantDigits: 2 })} MB`;
}

export function count(number: number, one: string, many = `${one}s`): string {
  return `${number.toLocaleString('en')} ${number === 1 ? one : many}`;
}

/** "the hub is away" as a sentence: "The hub is away." */
export function sentence(text: string): string {
  const ended = /[.!?]$/.test(text) ? text : `${text}.`;
  return ended.charAt(0).toUpperCase() + ended.slice(1);
}

export function list(words: readonly string[]): string {
  return new Intl.ListFormat('en').format(words);
}
