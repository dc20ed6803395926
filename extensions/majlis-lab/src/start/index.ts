import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, Notification } from '@jupyterlab/apputils';
import { ILauncher } from '@jupyterlab/launcher';
import { notebookIcon } from '@jupyterlab/ui-components';

import { CATEGORY, COMMANDS } from '../common/commands';
import { IMajlis } from '../panel';

/** The notebooks that everybody's home begins with, by what they are for. */
const NOTEBOOKS = [
  {
    path: 'start/01_first_model.ipynb',
    label: 'Your first model',
    caption: 'From a table to a model that answers over HTTP, in ten minutes'
  },
  {
    path: 'start/02_your_data.ipynb',
    label: 'Bring your own data',
    caption: 'A CSV file with faults becomes a table that others can trust'
  },
  {
    path: 'start/03_review_a_model.ipynb',
    label: 'Review a model',
    caption: 'What waits for a decision, and the evidence for it'
  }
];

const FIRST_RANK = 10; // after what the panel and the runs put there

/** The first notebooks, in the launcher and the palette. */
export const startPlugin: JupyterFrontEndPlugin<void> = {
  id: 'majlis-lab:start',
  description: 'Opens the first notebooks.',
  autoStart: true,
  requires: [IMajlis],
  optional: [ICommandPalette, ILauncher],
  activate: (
    app: JupyterFrontEnd,
    majlis: IMajlis,
    palette: ICommandPalette | null,
    launcher: ILauncher | null
  ) => {
    const { documents } = majlis.lab;
    app.commands.addCommand(COMMANDS.begin, {
      label: args => String(args['label'] ?? 'Begin'),
      caption: args => String(args['caption'] ?? ''),
      icon: args => (args['isPalette'] ? undefined : notebookIcon),
      isVisible: args => args['path'] !== undefined,
      execute: async args => {
        const path = String(args['path']);
        try {
          await documents.services.contents.get(path, { content: false });
        } catch {
          Notification.warning(`${path} is not there any more. It comes back when you delete start/.majlis-seeded.json and restart your server.`);
          return;
        }
        documents.openOrReveal(path);
      }
    });
    NOTEBOOKS.forEach((args, rank) => {
      launcher?.add({ command: COMMANDS.begin, category: CATEGORY, rank: FIRST_RANK + rank, args });
      palette?.addItem({ command: COMMANDS.begin, category: CATEGORY, args: { ...args, isPalette: true } });
    });
  }
};
