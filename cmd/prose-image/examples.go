package main

// overviewExample and examples are real sessions.
const overviewExample = `Example:
  $ prose-image init pod.toml
  $ prose-image bake pod.toml -o out
  $ prose-image seed --domain example.org -o seed.iso
  $ prose-image boot out/prose-0-generic-amd64.qcow2 --seed seed.iso
`

var examples = map[string]string{
	"init": `  $ prose-image init pod.toml
  pod.toml
`,
	"check": `  $ prose-image check pod.toml
  pod.toml:3:10: "fastest" is not one of cloud, generic
      3 | kernel = "fastest"
        |          ^^^^^^^^^
        = write kernel = "cloud"
  error: pod.toml has 1 problem
`,
	"plan": `  $ prose-image plan pod.toml
  prose 0 for amd64, release 0123456789abcdef, times at 2026-11-21T09:15:44Z
    layer base
      suite        trixie
      packages     262 locked
  …
`,
	"lock": `  $ prose-image lock --update pod.toml
  pod.lock
`,
	"bake": `  $ prose-image bake pod.toml -o out --format raw --format qcow2
  bake     base                     41.0 s  702.1 MiB
  …
  out/prose-0-generic-amd64.qcow2
`,
	"explain": `  $ prose-image explain pod.toml
  base        cached   60fdbee78b09bb01
  …
  files       missing  2b1406454583d717
              overlay: etc/motd changed
`,
	"verify": `  $ prose-image verify out pod.toml
  layer files: /etc/motd: the content differs
  prose-0-generic-amd64.raw: /etc/motd: its sha256 is 8a1f0c8b1f2e, that of what is made again 5be9a1c30c20
`,
	"seed": `  $ prose-image seed --domain example.org --ssh-key ~/.ssh/id_ed25519.pub -o seed.iso
  seed.iso
`,
	"boot": `  $ prose-image boot out/prose-0-generic-amd64.qcow2 --seed seed.iso --firmware uefi --forward 2222:22
  …
  prose login:
`,
	"test": `  $ prose-image test out/prose-0-generic-amd64.qcow2 --scenario first-boot.toml --firmware bios --junit junit.xml
  first-boot   bios         41.2 s  ok      log in
  first-boot   bios         63.0 s  ok      status ready
  …
`,
	"catalog ls": `  $ prose-image catalog ls
  release           name   version  arch   baked                 artifacts  channels
  0123456789abcdef  prose  0        amd64  2026-11-28T09:15:44Z  2          stable
`,
	"catalog show": `  $ prose-image catalog show stable
  release    0123456789abcdef…
  image      prose 0 for amd64
  channels   stable
  …
`,
	"catalog channel": `  $ prose-image catalog channel stable 0123456
  stable  0123456789abcdef  2026-11-28T09:20:11Z
`,
	"catalog gc": `  $ prose-image catalog gc --keep 3 --dry-run
  fedcba9876543210  prose 0 for amd64: its files are gone
`,
	"cache ls": `  $ prose-image cache ls
  kind       entries  size       last used
  layers     9        790.5 MiB  2026-11-28T09:15:44Z
  packages   262      187.3 MiB  2026-11-28T09:15:01Z
  blobs      21       44.1 MiB   2026-11-28T09:15:02Z
  left over  0        0 B
`,
	"cache gc": `  $ prose-image cache gc --keep 20GiB --older 30d
  left over/packages/incoming-1042  12.0 MiB: an interrupted bake left it
  removed 1 entry, 12.0 MiB
`,
	"cache verify": `  $ prose-image cache verify
  283 entries, 1.0 GiB, 0 damaged
`,
	"publish": `  $ prose-image publish out file:///srv/images --version 1.2.0
  upload   prose-1.2.0-generic-amd64.qcow2 1.3 s
  …
  file:///srv/images prose 1.2.0
    /srv/images/prose/1.2.0/prose-1.2.0-generic-amd64.qcow2
`,
	"sweep": `  $ prose-image sweep file:///srv/images --dry-run
  .prose-publish/0123456789abcdef0123456789abcdef  files that were not published yet, from 2026-11-26T10:15:44Z
`,
	"version": `  $ prose-image version
  prose-image v1.0.0 go1.26.8 linux/amd64
`,
}
