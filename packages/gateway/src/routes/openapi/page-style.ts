/** The style of `/docs`. It follows the reader's choice of light or dark. */
export const pageStyle = `
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 20%, transparent); --soft: color-mix(in srgb, currentColor 6%, transparent) }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 62rem; padding: 1rem 1.25rem 4rem }
h1 small { font-size: 1rem; font-weight: normal; opacity: .7 }
h2 { border-bottom: 1px solid var(--line); margin-top: 3rem; padding-bottom: .25rem }
h3 { margin: 2.5rem 0 .25rem }
code, pre { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .875em }
pre { background: var(--soft); border-radius: .375rem; overflow-x: auto; padding: .75rem 1rem }
nav h4 { margin: 1.25rem 0 .25rem }
nav ul { margin: 0; list-style: none; padding: 0 }
nav li { display: flex; flex-wrap: wrap; column-gap: 1rem; margin-bottom: .125rem }
nav a { text-decoration: none }
nav a code { display: inline-block; min-width: 19rem }
table { border-collapse: collapse; width: 100% }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .75rem .3rem 0; text-align: left; vertical-align: top }
td b { font-size: .75rem; font-weight: 600; opacity: .7 }
.type { font-size: .8125rem; opacity: .7 }
.method { border-radius: .25rem; color: #fff; display: inline-block; font: 600 .75rem/1.6 ui-monospace, monospace; text-align: center; width: 3.75rem; background: #555 }
.get { background: #1f6f43 }
.post { background: #1d4f91 }
.put { background: #8a4b08 }
.delete { background: #a1260d }
details { border-bottom: 1px solid var(--line) }
summary { cursor: pointer; padding: .5rem 0 }
:target { scroll-margin-top: 1rem }
:target h3, :target summary { background: var(--soft) }
`
