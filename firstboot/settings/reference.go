package settings

import (
	"fmt"
	"strings"
)

// Reference is the documentation of every setting, in Markdown.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Settings of a machine

A machine needs one setting, its domain. Give it as user-data when you make the machine:

` + "```yaml" + `
#cloud-config
write_files:
  - path: /etc/prose-firstboot.d/10-settings.yaml
    owner: root:root
    permissions: "0600"
    content: |
      domain: example.org
      smtp:
        host: smtp.example.org
        username: prose@example.org
        password: "..."
` + "```" + `

or later, over SSH: ` + "`prose-firstboot configure`" + ` asks, and takes every setting as a flag: ` + "`--smtp-host`" + ` for
` + "`smtp.host`" + `. Secrets and PEM text come from files: ` + "`--smtp-password-file FILE`" + `, or ` + "`-`" + ` for standard input.

## Where settings come from

For each setting the first of these that has it counts; the status shows where another says something else.

1. *files*: ` + "`/etc/prose-firstboot.d/*.yaml`" + ` and ` + "`*.json`" + `, in the order of their names. They must belong to root.
2. *cloud-config*: the key ` + "`prose`" + ` in cloud-config, from user-data or vendor-data. cloud-init finds it odd and calls the boot
   degraded when it comes from user-data; files are clean.
3. *metadata*: ` + "`prose-domain`" + ` in the platform's metadata.
4. *kernel command line*: ` + "`prose.domain=example.org`" + `.

The platform keeps user-data for as long as the machine lives, and shows it to whoever may see the machine there. Secrets are safer
with ` + "`configure`" + `.

## The settings

An unknown setting is an error. *Fixed* settings count once; the others may change later.

| setting | value | default | from | meaning |
|---|---|---|---|---|
`)
	for i := range Keys {
		k := &Keys[i]
		def := "none"
		if k.Default != "" {
			def = "`" + k.Default + "`"
		}
		doc := capital(k.Doc) + "."
		if k.Fixed {
			doc += " Fixed."
		}
		if k.Secret {
			doc += " Secret."
		}
		if k.Needs != "" {
			doc += " Needs `" + k.Needs + "`."
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", k.Name, k.Kind, def, k.Sources, strings.ReplaceAll(doc, "|", `\|`))
	}
	return b.String()
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
