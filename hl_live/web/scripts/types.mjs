// Writes src/generated/ from the schemas of the service's OpenAPI and AsyncAPI documents, which docs/generate.py
// keeps in api/. With --check it only says whether that would change anything.

import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { compile } from 'json-schema-to-typescript'

const NAMES = ['openapi', 'asyncapi']
const REF = '#/components/schemas/'

let stale = false
for (const name of NAMES) {
  const from = new URL(`../api/${name}.json`, import.meta.url)
  const to = new URL(`../src/generated/${name}.ts`, import.meta.url)
  const text = await typesOf(name, JSON.parse(await readFile(from, 'utf8')))
  const written = await readFile(to, 'utf8').catch(() => null)
  if (written === text) continue
  if (process.argv.includes('--check')) {
    console.error(`src/generated/${name}.ts is not what api/${name}.json says. Run \`npm run types\` in hl_live/web.`)
    stale = true
  } else {
    await mkdir(new URL('.', to), { recursive: true })
    await writeFile(to, text)
  }
}
process.exit(stale ? 1 : 0)

/** All schemas as the properties of one, so that each gets its type. */
async function typesOf(name, { components }) {
  // A title would become the type's name.
  const bare = JSON.stringify(components.schemas, (key, value) => (key === 'title' && typeof value === 'string' ? undefined : value))
  const definitions = JSON.parse(bare.replaceAll(REF, '#/definitions/'))
  const names = Object.keys(definitions)
  const properties = Object.fromEntries(names.map((schema) => [schema, { $ref: `#/definitions/${schema}` }]))
  return compile({ type: 'object', properties, required: names, definitions }, 'Schemas', {
    additionalProperties: false,
    bannerComment: `/* Written by scripts/types.mjs from api/${name}.json. Change the service instead. */`,
    style: { semi: false, singleQuote: true },
  })
}
