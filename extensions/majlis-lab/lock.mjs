/** Takes the packages' calls for funding out of the lock: they hold hosts, and say nothing about what is installed. */
import { readFile, writeFile } from 'node:fs/promises';

const lock = JSON.parse(await readFile('package-lock.json', 'utf-8'));
for (const entry of Object.values(lock.packages)) {
  delete entry.funding;
}
await writeFile('package-lock.json', JSON.stringify(lock, null, 2) + '\n');
