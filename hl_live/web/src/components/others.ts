/** The views beside the first, in one piece. */

export { Climate } from './Climate'
export { Energy } from './Energy'
export { Pipeline } from './Pipeline'
