package recipe

import (
	"fmt"
	"strings"
)

// Reference is the documentation of every key, in Markdown.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Recipes

A recipe is a TOML file. Every key is optional, and the empty recipe bakes the standard appliance. An unknown key is an error. Paths are
relative to the recipe. ` + "`prose-image init`" + ` writes a starter with every key.

Beside the recipe lies its lock, written by the first bake: exact versions and digests. ` + "`prose-image lock --update`" + ` moves it.

| key | value | default | meaning |
|---|---|---|---|
`)
	for _, k := range Keys {
		doc := capital(k.Doc) + "."
		if len(k.OneOf) > 1 {
			doc += " One of `" + strings.Join(k.OneOf, "`, `") + "`."
		}
		def := "none"
		if k.Default != "" {
			def = "`" + k.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.Name, k.Kind, def, strings.ReplaceAll(doc, "|", `\|`))
	}
	return b.String()
}
