/** The names of our commands, so that one feature can call another. */
export const COMMANDS = {
  open: 'majlis:open',
  reviews: 'majlis:open-reviews',
  runNotebook: 'majlis:run-notebook',
  runPipeline: 'majlis:run-pipeline',
  mend: 'majlis:mend-notebook',
  register: 'majlis:register',
  deploy: 'majlis:deploy',
  rollback: 'majlis:rollback',
  version: 'majlis:open-version',
  begin: 'majlis:begin'
} as const;

export const CATEGORY = 'Majlis';
