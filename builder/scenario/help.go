package scenario

import (
	"fmt"
	"strings"
)

// Help lists the commands for a terminal.
func Help() string {
	var b strings.Builder
	line := func(usage, doc string) {
		fmt.Fprintf(&b, "  %s\n", usage)
		for _, l := range wrap(doc, 72) {
			fmt.Fprintf(&b, "      %s\n", l)
		}
	}
	line("within TIME COMMAND...", "Tries the command again until it passes, for so long with KVM and four times as long without.")
	for _, c := range Commands {
		line(c.Usage(), c.Doc)
	}
	return b.String()
}

func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, w := range strings.Fields(text) {
		if line != "" && len(line)+1+len(w) > width {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimSpace(line + " " + w)
	}
	return append(lines, line)
}

// Markdown is docs/scenarios.md.
func Markdown() string {
	var b strings.Builder
	b.WriteString(`# Scenarios

` + "`prose-image test IMAGE --scenario FILE`" + ` boots an image and does what a scenario says. A scenario is a TOML file; an unknown key is an
error. The first step that fails ends it. Around the machine there is a network of its own: its public address is 1.2.3.4, at 10.0.2.2 it
finds a name server and a certificate authority (Pebble), at 169.254.169.254 a metadata service, and nothing else.

    about = "A new machine becomes a Pod"
    firmware = ["bios", "uefi"]
    domain = "chat.example"
    steps = [
      'status ready',
      'http 200 GET https://prose.{domain}/',
      'run "systemctl is-active docker"',
    ]

    [settings]
    company = "Example"

## Keys

| key | value | default | meaning |
|---|---|---|---|
`)
	for _, k := range Keys {
		standard := k.Default
		switch standard {
		case "":
			standard = "none"
		case "none":
		default:
			standard = "`" + standard + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.Name, k.Value, standard, k.Doc)
	}
	b.WriteString(`
## Steps

A step is a line of words as a shell splits them: quotes keep words together, and a backslash belongs in quotes. ` + "`within TIME`" + ` before a command tries it again until it passes,
for so long with KVM and four times as long without. These stand for values: ` + "`{domain}`, `{address}` (the machine's), `{elsewhere}` (another\nmachine's), `{acme.directory}`, `{acme.ca}`, `{acme.ca.quoted}` (on one line, in quotes)" + `, and what ` + "`save`" + ` has kept.

| command | meaning |
|---|---|
`)
	for _, c := range Commands {
		fmt.Fprintf(&b, "| `%s` | %s |\n", strings.ReplaceAll(c.Usage(), "|", `\|`), c.Doc)
	}
	return b.String()
}
