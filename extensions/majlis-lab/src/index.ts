import { deploymentsPlugin } from './deployments';
import { panelPlugin } from './panel';
import { runsPlugin } from './runs';

export default [panelPlugin, runsPlugin, deploymentsPlugin];
