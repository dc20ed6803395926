import { deploymentsPlugin } from './deployments';
import { idlePlugin } from './idle';
import { panelPlugin } from './panel';
import { registerPlugin } from './register';
import { runsPlugin } from './runs';

export default [panelPlugin, runsPlugin, registerPlugin, deploymentsPlugin, idlePlugin];
