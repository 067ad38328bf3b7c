import '@fontsource-variable/funnel-display/wght.css'
import '@fontsource-variable/funnel-sans/wght.css'
import 'uplot/dist/uPlot.min.css'
import './styles/base.css'
import './styles/page.css'
import './styles/views.css'

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
