/** The steps of a rollout, as they are typed and slid; pure. */

export const WHOLE = 100; // percent

/** "5, 25, 100" as numbers; throws an Error that says what to type instead. */
export function stepsOf(text: string): number[] {
  const steps = text.split(/[\s,;]+/).filter(Boolean).map(Number);
  const fits = steps.every(step => Number.isInteger(step) && step >= 1 && step <= WHOLE);
  if (steps.length === 0 || !fits) {
    throw new Error('Give whole percents from 1 to 100, such as 5, 25, 100.');
  }
  if (steps.some((step, place) => place > 0 && step <= (steps[place - 1] ?? 0))) {
    throw new Error('Each step is larger than the one before.');
  }
  return steps;
}

/** The same steps with another beginning: what is not larger than it falls away. */
export function beginningAt(first: number, steps: readonly number[]): number[] {
  return [first, ...steps.slice(1).filter(step => step > first)];
}
