import '@fontsource-variable/funnel-display/wght.css'
import '@fontsource-variable/funnel-sans/wght.css'
import 'uplot/dist/uPlot.min.css'
import './styles/base.css'
// The order counts where rules of two files fit one element.
import './styles/layout.css'
import './styles/header.css'
import './styles/device.css'
import './styles/heatpump.css'
import './styles/rooms.css'
import './styles/stale.css'
import './styles/energy.css'
import './styles/pipeline.css'
import './styles/climate.css'

import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'

import { App } from './App'
import { startHome } from './browser'
import { makeFormat } from './format'

const home = startHome()
const format = makeFormat(navigator.languages)

createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <App home={home} format={format} />
  </StrictMode>,
)
