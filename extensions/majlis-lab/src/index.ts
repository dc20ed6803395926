import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';

const plugin: JupyterFrontEndPlugin<void> = {
  id: 'majlis-lab:plugin',
  description: 'Majlis in JupyterLab.',
  autoStart: true,
  activate: (app: JupyterFrontEnd) => {
    app.commands.addCommand('majlis:hello', { execute: () => undefined });
  }
};
export default plugin;
