package settings

// A Line is one setting as others may see it.
type Line struct {
	Key, Value string
	From       string // empty: the default
}

// Shown are all settings, with *** for the value of a secret.
func Shown(s *Settings, r Report) []Line {
	var out []Line
	for i := range Keys {
		k := &Keys[i]
		l := Line{Key: k.Name, Value: k.get(s)}
		if k.Secret && l.Value != "" {
			l.Value = hidden
		}
		if at, ok := r.From[k.Name]; ok {
			l.From = at.String()
		}
		out = append(out, l)
	}
	return out
}

// Secrets are the values that Shown hides, for whoever takes them out of texts.
func Secrets(s *Settings) []string {
	var out []string
	for i := range Keys {
		if k := &Keys[i]; k.Secret && k.get(s) != "" {
			out = append(out, k.get(s))
		}
	}
	return out
}
