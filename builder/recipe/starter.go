package recipe

import (
	"fmt"
	"strings"
)

// Starter is a recipe with every key at its default and commented out, so it
// means what the empty recipe means.
func Starter() string {
	var b strings.Builder
	b.WriteString("# A recipe for prose-image. Every line is optional: what is commented out is the\n# default. Bake it with: prose-image bake FILE\n")
	table := ""
	for _, k := range Keys {
		t, _, nested := strings.Cut(k.Name, ".")
		if nested && t != table {
			fmt.Fprintf(&b, "\n[%s]\n", t)
			table = t
		}
		fmt.Fprintf(&b, "\n# %s.\n", wrap(capital(k.Doc), 76))
		if len(k.OneOf) > 1 {
			fmt.Fprintf(&b, "# One of: %s.\n", strings.Join(k.OneOf, ", "))
		}
		if k.Kind == Table {
			fmt.Fprintf(&b, "# %s = { %s }\n", lastPart(k.Name), exampleMember(k.Name))
			continue
		}
		fmt.Fprintf(&b, "# %s = %s\n", lastPart(k.Name), k.Default)
	}
	return b.String()
}

func exampleMember(name string) string {
	if name == "pod.mirror" {
		return `"docker.io/proseim" = "registry.example.org/proseim"`
	}
	return `"docker.io/proseim/prose-pod-api" = "docker.io/proseim/prose-pod-api:0.20.1"`
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// wrap breaks s at spaces into comment lines of at most width bytes.
func wrap(s string, width int) string {
	var lines []string
	line := ""
	for _, w := range strings.Fields(s) {
		if line != "" && len(line)+1+len(w) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += w
	}
	return strings.Join(append(lines, line), "\n# ")
}
