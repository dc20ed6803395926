import { deploymentsPlugin } from './deployments';
import { idlePlugin } from './idle';
import { panelPlugin } from './panel';
import { registerPlugin } from './register';
import { runsPlugin } from './runs';
import { startPlugin } from './start';

export default [panelPlugin, runsPlugin, registerPlugin, deploymentsPlugin, startPlugin, idlePlugin];
