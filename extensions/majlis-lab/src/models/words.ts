/** How states are coloured and said. */
import { ICheck, IVersion, Tier } from '../api/control';
import { Tone } from '../common/views';
import { count, list } from '../common/words';

const STATES: Record<string, Tone> = {
  registered: 'busy',
  checking: 'busy',
  failed: 'bad',
  'in review': 'warn',
  approved: 'busy',
  released: 'good',
  rejected: 'bad',
  withdrawn: 'quiet',
  revoked: 'bad'
};

export function stateTone(state: string): Tone {
  return STATES[state] ?? 'quiet';
}

export function tierTone(tier: Tier | null): Tone {
  return tier === 'high' ? 'bad' : tier === 'medium' ? 'warn' : 'quiet';
}

export function verdictTone(check: ICheck): Tone {
  return check.verdict === 'passed' ? 'good' : check.verdict === 'failed' ? 'bad' : 'warn';
}

const CHAIRS: Record<string, string> = {
  review: 'an ML engineer',
  own: 'the model owner',
  comply: 'a compliance officer'
};

/** Who still has to decide, as people call them. */
export function whoDecides(chairs: readonly string[]): string {
  return list(chairs.map(chair => CHAIRS[chair] ?? chair));
}

/** better_than_baseline, as people read it. */
export function checkName(check: ICheck): string {
  return check.name.replace(/_/g, ' ');
}

/** "8 checks passed", or which did not. */
export function checksInWords(version: IVersion): { text: string; tone: Tone } {
  const { checks } = version;
  const others = checks.filter(check => check.verdict === 'failed' || check.verdict === 'error');
  const skipped = checks.filter(check => check.verdict === 'skipped');
  if (checks.length === 0) {
    return { text: version.state === 'checking' ? 'being checked' : 'not checked yet', tone: 'quiet' };
  }
  return others.length === 0
    ? {
        text: [
          `${count(checks.length - skipped.length, 'check')} passed`,
          ...skipped.map(check => `${checkName(check)} skipped`)
        ].join(', '),
        tone: 'good'
      }
    : { text: `${others.map(checkName).join(', ')}: not passed`, tone: 'bad' };
}
