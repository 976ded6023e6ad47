"""The one stylesheet. Colours are those of Okabe and Ito (2008), told apart by readers with any colour vision.

Every rule begins with the class of what it styles, so that a piece of a page changes nothing of a notebook around it.
"""

from markupsafe import Markup

STYLESHEET = Markup("""
.kedge { color-scheme: light dark; --ink: #1b1f24; --faint: #5b6570; --line: #d5dae0; --paper: #ffffff;
  --panel: #f5f7f9; --series-0: #0072b2; --series-1: #d55e00; --series-2: #007a5a; --series-3: #a8457d;
  --series-4: #8a6d00; --series-5: #3b7ea1; }
@media (prefers-color-scheme: dark) { .kedge { --ink: #e6e9ed; --faint: #9aa5b1; --line: #38414b; --paper: #14181d;
  --panel: #1d232a; --series-0: #56b4e9; --series-1: #f0843c; --series-2: #2fc59b; --series-3: #dd8fb9;
  --series-4: #e6c229; --series-5: #8fc7e2; } }
.kedge, .kedge * { box-sizing: border-box; }
.kedge { padding: .2rem 1rem 1rem; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
body.kedge { margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 4rem; }
.kedge h1 { font-size: 1.6rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
.kedge h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; overflow-wrap: anywhere; }
.kedge p { margin: .5rem 0; max-width: 48rem; overflow-wrap: anywhere; }
.kedge .subtitle, .kedge figcaption, .kedge .legend { color: var(--faint); }
.kedge .scroll { overflow-x: auto; margin: .6rem 0; }
.kedge table { border-collapse: collapse; font-size: .9rem; }
.kedge th, .kedge td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
.kedge td { overflow-wrap: break-word; }
.kedge td:last-child { overflow-wrap: anywhere; }
.kedge th { color: var(--faint); font-weight: 600; }
.kedge td.time { white-space: nowrap; }
.kedge th.number, .kedge td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.kedge dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .6rem; margin: .8rem 0; }
.kedge dl div { background: var(--panel); border-radius: .4rem; padding: .5rem .8rem; }
.kedge dt { color: var(--faint); font-size: .8rem; }
.kedge dd { margin: 0; font-size: 1.1rem; overflow-wrap: anywhere; }
.kedge a { color: var(--series-0); }
.kedge figure { margin: .8rem 0; }
.kedge svg { display: block; width: 100%; height: auto; }
.kedge :not(.small) > figure { overflow-x: auto; }
.kedge :not(.small) > figure > svg { min-width: 38rem; }
.kedge svg text { fill: var(--faint); font: 11px system-ui, sans-serif; }
.kedge .axis { stroke: var(--line); stroke-width: 1; }
.kedge .tick { stroke: currentColor; stroke-width: 1.5; }
.kedge .lane { font-size: 9px; }
.kedge .event { stroke: var(--faint); stroke-dasharray: 3 3; }
.kedge .curve { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.kedge .dots { fill: none; stroke-width: 4; stroke-linecap: round; opacity: .5; }
.kedge .bars { fill: var(--faint); opacity: .35; }
.kedge .legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .85rem; }
.kedge .legend span::before { content: ""; display: inline-block; width: 1.2rem; border-top: .2rem solid var(--colour);
  margin-right: .4rem; vertical-align: middle; }
.kedge .small { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem; }
.kedge .small > * { margin: 0; min-width: 0; border-top: 1px solid var(--line); padding-top: .4rem; }
.kedge .small figcaption { font-size: .8rem; overflow-wrap: anywhere; }
.kedge .small figcaption b { color: var(--ink); font-size: .9rem; }
@media print { body.kedge { max-width: none; } .kedge .small > * { break-inside: avoid; } }
""")
