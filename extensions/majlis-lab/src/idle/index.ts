import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { Notification } from '@jupyterlab/apputils';

import { requestAPI } from '../api/request';

const EVENT = 'urn:majlis:events:idle';

const INPUT = ['keydown', 'pointerdown', 'wheel'];
const PAUSE_MS = 30000; // between two words about the same person at work

/** Says when a person is at work; warns that the server will be stopped, and lets its person keep it. */
export const idlePlugin: JupyterFrontEndPlugin<void> = {
  id: 'majlis-lab:idle',
  description: 'A warning before an idle server is stopped.',
  autoStart: true,
  activate: (app: JupyterFrontEnd) => {
    const use = () => requestAPI('idle', { method: 'POST' });
    let said = 0;
    const notice = () => {
      if (Date.now() - said > PAUSE_MS) {
        said = Date.now();
        use().catch(() => undefined); // the server is away: the panel says so, and the next key tries again
      }
    };
    INPUT.forEach(kind => document.addEventListener(kind, notice, { capture: true, passive: true }));

    let shown = '';
    app.serviceManager.events.stream.connect((_, emission) => {
      if (emission.schema_id !== EVENT) {
        return;
      }
      Notification.dismiss(shown || undefined);
      const seconds = Number(emission['stops_in_seconds']);
      if (seconds > 0) {
        shown = Notification.warning(`Your server stops in ${inWords(seconds)}: nothing runs, and nobody uses it.`, {
          autoClose: false,
          actions: [{ label: 'Keep it', callback: () => void use() }]
        });
      }
    });
  }
};

function inWords(seconds: number): string {
  const minutes = Math.round(seconds / 60);
  return minutes > 1 ? `${minutes} minutes` : minutes === 1 ? 'a minute' : `${seconds} seconds`;
}
