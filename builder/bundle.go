package builder

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/prose-im/prose-image/builder/recipe"
	"github.com/prose-im/prose-image/overlays"
)

// A Bundle is what runs on the machine: a compose file, its override and
// templates. They lie in [overlays.PodDir] of the image.
type Bundle struct {
	Name     string
	Files    []overlays.File // without images.yaml, which the builder writes
	Services []Service       // in the order of their names
}

// A Service is one service of the compose file and the image it runs.
type Service struct{ Name, Image string }

// A BundleError says what a bundle lacks.
type BundleError struct {
	Name string
	Err  error
}

func (e *BundleError) Error() string { return fmt.Sprintf("reading pod bundle %q: %v", e.Name, e.Err) }

func (e *BundleError) Unwrap() error { return e.Err }

// Hint says what a bundle is.
func (e *BundleError) Hint() string {
	return fmt.Sprintf("pod.bundle is one of %s, or a directory with compose.yaml and prose.toml.tmpl or templates/prose.toml", strings.Join(overlays.Bundles(), ", "))
}

// loadBundle reads the bundle that a recipe names: a built-in one, or a
// directory of upstream's files, used unchanged, with our override and
// environment beside them.
func loadBundle(r *recipe.Recipe) (*Bundle, error) {
	b := &Bundle{Name: r.Bundle}
	if slices.Contains(overlays.Bundles(), r.Bundle) {
		var err error
		if b.Files, err = overlays.Pod(r.Bundle); err != nil {
			return nil, fmt.Errorf("BUG: overlays: %w", err)
		}
	} else {
		dir := beside(r.Dir, r.Bundle)
		ours, err := overlays.Pod(overlays.Bundles()[0])
		if err != nil {
			return nil, fmt.Errorf("BUG: overlays: %w", err)
		}
		for _, f := range ours {
			var from string
			switch filepath.Base(f.Path) {
			case "compose.yaml":
				from = "compose.yaml"
			case "prose.toml.tmpl":
				from = "prose.toml.tmpl"
				if _, err := os.Stat(filepath.Join(dir, from)); errors.Is(err, fs.ErrNotExist) {
					from = "templates/prose.toml"
				}
			default:
				b.Files = append(b.Files, f)
				continue
			}
			content, err := os.ReadFile(filepath.Join(dir, from))
			if err != nil {
				return nil, &BundleError{Name: r.Bundle, Err: err}
			}
			f.Content = content
			b.Files = append(b.Files, f)
		}
	}
	var compose, env []byte
	for _, f := range b.Files {
		switch filepath.Base(f.Path) {
		case "compose.yaml":
			compose = f.Content
		case "compose.env":
			env = f.Content
		}
	}
	var err error
	if b.Services, err = services(compose, parseEnv(env)); err != nil {
		return nil, &BundleError{Name: r.Bundle, Err: err}
	}
	for i, s := range b.Services {
		name, _, _ := strings.Cut(s.Image, "@")
		if at := strings.LastIndexByte(name, ':'); at > strings.LastIndexByte(name, '/') {
			name = name[:at]
		}
		if other, ok := r.Images[name]; ok {
			b.Services[i].Image = other
		}
	}
	for name := range r.Images {
		if !slices.ContainsFunc(b.Services, func(s Service) bool { return s.Image == r.Images[name] }) {
			return nil, &BundleError{Name: r.Bundle, Err: fmt.Errorf("pod.images: the bundle runs no image %s", name)}
		}
	}
	return b, nil
}

// services reads the images of a compose file's services.
func services(compose []byte, env map[string]string) ([]Service, error) {
	var file struct {
		Services map[string]struct {
			Image string `yaml:"image"`
		} `yaml:"services"`
	}
	if err := yaml.Unmarshal(compose, &file); err != nil {
		return nil, fmt.Errorf("compose.yaml: %w", err)
	}
	if len(file.Services) == 0 {
		return nil, errors.New("compose.yaml: it has no services")
	}
	var list []Service
	for name, s := range file.Services {
		image, err := interpolate(s.Image, env)
		if err != nil {
			return nil, fmt.Errorf("compose.yaml: image of service %s: %w", name, err)
		}
		if image == "" {
			return nil, fmt.Errorf("compose.yaml: service %s has no image", name)
		}
		list = append(list, Service{Name: name, Image: image})
	}
	slices.SortFunc(list, func(a, b Service) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// pins is the compose file that pins services to digests. Nothing is pulled:
// the images are in the store.
func pins(services []Service, images []Image) ([]byte, error) {
	type pin struct {
		Image      string `yaml:"image"`
		PullPolicy string `yaml:"pull_policy"`
	}
	var file struct {
		Services map[string]pin `yaml:"services"`
	}
	file.Services = map[string]pin{}
	for _, s := range services {
		i := slices.IndexFunc(images, func(i Image) bool { return i.Name == s.Image })
		if i < 0 {
			return nil, fmt.Errorf("BUG: image %s is not locked", s.Image)
		}
		name, _, _ := strings.Cut(s.Image, "@")
		file.Services[s.Name] = pin{Image: name + "@" + images[i].Digest, PullPolicy: "missing"}
	}
	var b bytes.Buffer
	b.WriteString("# Written at bake time: the digests of the images that are on this machine.\n")
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(file); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// parseEnv reads KEY=VALUE lines as compose's --env-file does, without quotes.
func parseEnv(b []byte) map[string]string {
	env := map[string]string{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if key, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			env[key] = value
		}
	}
	return env
}

// interpolate replaces variables as the Compose specification, chapter
// Interpolation, says: $VAR, ${VAR}, ${VAR-default}, ${VAR:-default}, with
// further variables in a default, and $$ for a dollar.
func interpolate(s string, env map[string]string) (string, error) {
	var out strings.Builder
	for i := 0; i < len(s); {
		if s[i] != '$' {
			out.WriteByte(s[i])
			i++
			continue
		}
		rest := s[i+1:]
		switch {
		case strings.HasPrefix(rest, "$"):
			out.WriteByte('$')
			i += 2
		case strings.HasPrefix(rest, "{"):
			end := closing(rest)
			if end < 0 {
				return "", fmt.Errorf("%q has a ${ that does not end", s)
			}
			v, err := variable(rest[1:end], env)
			if err != nil {
				return "", err
			}
			out.WriteString(v)
			i += 1 + end + 1
		default:
			n := nameLength(rest)
			if n == 0 {
				return "", fmt.Errorf("%q has a $ without a name", s)
			}
			out.WriteString(env[rest[:n]])
			i += 1 + n
		}
	}
	return out.String(), nil
}

func variable(s string, env map[string]string) (string, error) {
	n := nameLength(s)
	value, set := env[s[:n]]
	switch op := s[n:]; {
	case n == 0:
		return "", fmt.Errorf("${%s} has no name", s)
	case op == "":
		return value, nil
	case strings.HasPrefix(op, ":-"):
		if value != "" {
			return value, nil
		}
		return interpolate(op[2:], env)
	case strings.HasPrefix(op, "-"):
		if set {
			return value, nil
		}
		return interpolate(op[1:], env)
	}
	return "", fmt.Errorf("${%s} is not a form that is understood here", s)
}

// closing finds the brace that closes the one s begins with.
func closing(s string) int {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

func nameLength(s string) int {
	n := 0
	for n < len(s) && (s[n] == '_' || s[n] >= 'A' && s[n] <= 'Z' || s[n] >= 'a' && s[n] <= 'z' || n > 0 && s[n] >= '0' && s[n] <= '9') {
		n++
	}
	return n
}
