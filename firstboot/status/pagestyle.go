package status

// style is the page's only style sheet: system fonts, one accent, light and
// dark as the reader's system has it. Colours hold 4.5 to 1 against what they
// stand on (WCAG 2.1, 1.4.3); testdata/screens measures it.
const style markup = `:root {
color-scheme: light dark;
--ground: #f7f7f5; --sheet: #fff; --text: #1b1e24; --quiet: #585e6a; --line: #dfe0e3; --accent: #1d4fc4; --wash: #eef2fc;
}
@media (prefers-color-scheme: dark) {
:root { --ground: #14161a; --sheet: #1c1f25; --text: #e9eaec; --quiet: #a4abb8; --line: #343944; --accent: #9dbcff; --wash: #222b3f; }
}
@media (prefers-contrast: more) {
:root { --quiet: var(--text); --line: var(--text); }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 46rem; padding: 1.5rem 1.25rem 3rem; font: 1rem/1.6 system-ui, sans-serif; color: var(--text); background: var(--ground); overflow-wrap: break-word; }
p { margin: 0 0 .75rem; max-width: 38rem; }
.brand { margin: 0; font-size: .875rem; font-weight: 600; letter-spacing: .02em; color: var(--quiet); }
h1 { margin: 2.5rem 0 .75rem; font-size: clamp(1.625rem, 1.2rem + 2vw, 2.25rem); line-height: 1.2; letter-spacing: -.015em; text-wrap: balance; }
h1::before { content: ""; display: block; width: 2.75rem; height: .25rem; margin-bottom: 1.25rem; border-radius: .125rem; background: var(--accent); }
h1.broken::before, h1.degraded::before { background: repeating-linear-gradient(90deg, var(--accent) 0 .5rem, transparent .5rem .75rem); }
.lead { font-size: 1.125rem; color: var(--quiet); }
h2 { margin: 2.75rem 0 .875rem; font-size: 1.125rem; line-height: 1.3; }
h3 { margin: 0 0 .125rem; font-size: 1rem; line-height: 1.6; }
section > h3 { margin: 1.5rem 0 .5rem; }
ul { margin: 0; padding: 0; list-style: none; }
.items > li { padding: 1rem 0; border-top: 1px solid var(--line); }
.items > li > :last-child { margin-bottom: 0; }
.items.owner > li, .items.failed > li, .items.warning > li { margin-bottom: .75rem; padding: 1.25rem; border: 1px solid var(--line); border-radius: .75rem; background: var(--sheet); }
.items.owner > li { border-color: var(--accent); box-shadow: 0 0 0 1px var(--accent); }
.items.done > li, .items.doing > li { padding: .625rem 0; }
.items.done p, .items.doing p, .why { color: var(--quiet); }
.items h3 + p { margin-bottom: .5rem; }
.again { font-size: .875rem; color: var(--quiet); }
.points { margin: 0 0 .75rem; padding-left: 1.25rem; list-style: disc; }
.points li { padding: .125rem 0; overflow-wrap: anywhere; }
.links { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(18rem, 100%), 1fr)); gap: .75rem; margin-top: 1.75rem; }
.links a, .links li > strong:first-child { display: block; }
.links a { height: 100%; padding: .875rem 1.125rem; border: 1px solid var(--line); border-radius: .75rem; background: var(--sheet); color: var(--accent); text-decoration: none; }
.links a:hover { border-color: var(--accent); background: var(--wash); }
.links strong { display: block; text-decoration: underline; text-underline-offset: .2em; }
.links span { color: var(--quiet); font-size: .875rem; overflow-wrap: anywhere; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
code { font: .875rem/1.6 ui-monospace, "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.copy { margin: 0 0 .75rem; overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem; background: var(--wash); }
.copy pre { width: max-content; min-width: 100%; margin: 0; padding: .75rem 1rem; }
table { width: 100%; margin: 0 0 1.25rem; border-collapse: collapse; }
caption { padding: 0 0 .5rem; text-align: left; color: var(--quiet); font-size: .875rem; }
th, td { padding: .625rem 1rem .625rem 0; border-top: 1px solid var(--line); text-align: left; vertical-align: top; overflow-wrap: anywhere; }
thead th { border: 0; padding-bottom: .25rem; font-size: .875rem; color: var(--quiet); }
tbody th { font-weight: 600; }
thead th, td.type, td.ttl { overflow-wrap: break-word; }
td.value { width: 55%; }
.note { display: block; font-size: .875rem; color: var(--quiet); }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); font-size: .875rem; color: var(--quiet); }
footer p { margin: 0; }
@media (min-width: 40.01rem) {
.items.done > li, .items.doing > li { display: grid; grid-template-columns: 10rem 1fr; gap: 0 1rem; }
.items.done > li > *, .items.doing > li > * { grid-column: 2; }
.items.done h3, .items.doing h3 { grid-column: 1; }
}
@media (max-width: 40rem) {
thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
thead tr, thead th { display: block; }
tbody tr { display: grid; grid-template-columns: 1fr auto auto; gap: 0 1rem; padding: .75rem 0; border-top: 1px solid var(--line); }
tbody th, tbody td { padding: 0; border: 0; }
td.value { grid-row: 2; grid-column: 1 / -1; width: auto; }
td.ttl::before { content: "TTL "; color: var(--quiet); }
.certificates tbody tr { grid-template-columns: 1fr auto; }
.certificates tbody th { grid-column: 1 / -1; }
.certificates td { font-size: .875rem; color: var(--quiet); }
td.by::before { content: "Signed by "; }
td.until:not(:empty)::before { content: "until "; }
.fields tbody tr { grid-template-columns: 1fr; }
.fields td::before { color: var(--quiet); }
td.protocol::before { content: "Protocol: "; }
td.name::before { content: "Name: "; }
td.priority::before { content: "Priority: "; }
td.weight::before { content: "Weight: "; }
td.port::before { content: "Port: "; }
td.target::before { content: "Target: "; }
td.apex::before { content: "Instead of @: "; }
td.leads::before { content: "Targets: "; }
}
@media print {
.copy { overflow: visible; }
.copy pre { width: auto; white-space: pre-wrap; }
}
`
