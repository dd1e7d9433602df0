package pod

import (
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A File is a Compose file.
type File struct {
	Name    string // absolute, for messages and labels
	Content []byte
}

// A Project is what Compose files say, merged and checked.
type Project struct {
	Name     string
	Files    []string // names, in order
	Dir      string   // what relative paths start from
	Services map[string]*Service
	Networks map[string]*Network // those that a service uses
	Volumes  map[string]*Volume
}

// A Service is a container to run.
type Service struct {
	Name          string
	Image         string
	PullPolicy    string // empty, missing, never
	User          string
	Entrypoint    []string // nil: the image's
	Command       []string // nil: the image's
	EnvFiles      []EnvFile
	Environment   map[string]*string // nil: not set, and not taken from the image either
	Tty           bool
	ReadOnly      bool
	Init          *bool
	Networks      map[string][]string // network -> aliases
	Ports         []Port
	Mounts        []Mount
	Tmpfs         []string // TARGET or TARGET:OPTIONS
	Restart       string   // of the engine; empty: no
	NoHealthcheck bool
	CapAdd        []string
	CapDrop       []string
	SecurityOpt   []string
	PidsLimit     *int64
	Logging       Logging
	DependsOn     []string // sorted
	Labels        map[string]string
}

// An EnvFile is a file of variables for a container.
type EnvFile struct {
	Path     string
	Required bool
}

// A Port is a port of the machine that leads to one of a container.
type Port struct {
	IP        string // empty: every address, both families
	Published uint16 // 0: one that the engine picks
	Target    uint16
	Protocol  string // tcp, udp
}

func (p Port) String() string {
	return fmt.Sprintf("[%s]:%d:%d/%s", p.IP, p.Published, p.Target, p.Protocol)
}

// A Mount is a directory of the machine or a volume in a container.
type Mount struct {
	Volume   bool
	Source   string // absolute path, or the volume's key
	Target   string
	ReadOnly bool
}

// Logging is where a container's output goes.
type Logging struct {
	Driver  string
	Options map[string]string
}

// A Network is a network of the project.
type Network struct {
	Name     string // of the engine; empty: made from the project's and its key
	Driver   string
	IPv6     bool
	Internal bool
	IPAM     string // driver
	Pools    []Pool
	Labels   map[string]string
}

// A Pool is a subnet of a network.
type Pool struct{ Subnet, IPRange, Gateway string }

// A Volume is a named volume.
type Volume struct {
	Name   string // of the engine; empty: made from the project's and its key
	Driver string
	Labels map[string]string
}

// Parse reads Compose files, later over earlier, with env for the variables in
// them. It takes the part of the Compose specification that a Pod uses; what it
// does not know is an error. All errors come at once, each a [Problem].
//
// dir is what relative paths start from. The project is called
// COMPOSE_PROJECT_NAME, or what the files say.
func Parse(dir string, files []File, env map[string]string) (*Project, error) {
	var ps problems
	whole := &value{kind: dict, dict: map[string]*value{}, file: "no file"}
	p := &Project{Dir: dir}
	for _, f := range files {
		p.Files = append(p.Files, f.Name)
		r := &reader{file: f.Name, env: env}
		v := r.read(f.Content)
		r.normal("", v)
		whole = r.merge("", whole, v)
		ps = append(ps, r.problems...)
		if whole == nil {
			whole = v
		}
	}
	d := &decoder{problems: ps, dir: dir}
	d.project(p, whole)
	if name := env["COMPOSE_PROJECT_NAME"]; name != "" {
		p.Name = name
	}
	if len(d.problems) == 0 {
		d.check(p, whole)
	}
	if err := d.err(); err != nil {
		return nil, err
	}
	return p, nil
}

// A decoder makes a project of values.
type decoder struct {
	problems
	dir string
}

// fields calls, for each key of a mapping, what is there for it. Names that
// start with x- are the author's own.
func (d *decoder) fields(p string, v *value, known map[string]func(p string, v *value)) {
	d.each(p, v, func(p, key string, v *value) {
		switch f := known[key]; {
		case f != nil && v.kind == null:
			// As if it were not there.
		case f != nil:
			f(p, v)
		case !strings.HasPrefix(key, "x-"):
			d.at(v, p, "the key is not understood")
		}
	})
}

func (d *decoder) each(p string, v *value, f func(p, key string, v *value)) {
	if !d.is(p, v, dict) {
		return
	}
	for _, k := range v.keys {
		f(join(p, k), k, v.dict[k])
	}
}

func (d *decoder) is(p string, v *value, k kind) bool {
	if v.kind == null && k != scalar {
		return false
	}
	if v.kind != k {
		d.at(v, p, "%s, want %s", v.kind, k)
	}
	return v.kind == k
}

func (d *decoder) text(to *string) func(string, *value) {
	return func(p string, v *value) {
		if d.is(p, v, scalar) {
			*to = v.text
		}
	}
}

func (d *decoder) oneOf(to *string, words ...string) func(string, *value) {
	return func(p string, v *value) {
		if !d.is(p, v, scalar) {
			return
		}
		if *to = v.text; !slices.Contains(words, v.text) {
			d.at(v, p, "%q, want one of %s", v.text, strings.Join(words, ", "))
		}
	}
}

func (d *decoder) flag(to *bool) func(string, *value) {
	return func(p string, v *value) {
		switch {
		case !d.is(p, v, scalar):
		case v.text == "true" || v.text == "false":
			*to = v.text == "true"
		default:
			d.at(v, p, "%q, want true or false", v.text)
		}
	}
}

func (d *decoder) texts(to *[]string) func(string, *value) {
	return func(p string, v *value) {
		if !d.is(p, v, list) {
			return
		}
		*to = []string{}
		for i, item := range v.items {
			if d.is(fmt.Sprintf("%s[%d]", p, i), item, scalar) {
				*to = append(*to, item.text)
			}
		}
	}
}

func (d *decoder) items(f func(p string, v *value)) func(string, *value) {
	return func(p string, v *value) {
		if d.is(p, v, list) {
			for i, item := range v.items {
				f(fmt.Sprintf("%s[%d]", p, i), item)
			}
		}
	}
}

func (d *decoder) dictOf(to *map[string]string) func(string, *value) {
	return func(p string, v *value) {
		*to = map[string]string{}
		d.each(p, v, func(p, key string, v *value) {
			if v.kind == null {
				(*to)[key] = ""
			} else if d.is(p, v, scalar) {
				(*to)[key] = v.text
			}
		})
	}
}

// words is a command: a list, or text that is split as a shell would.
func (d *decoder) words(to *[]string) func(string, *value) {
	return func(p string, v *value) {
		if v.kind != scalar {
			d.texts(to)(p, v)
			return
		}
		w, err := split(v.text)
		if err != nil {
			d.at(v, p, "%v", err)
		}
		*to = w
	}
}

func (d *decoder) project(p *Project, v *value) {
	p.Services, p.Networks, p.Volumes = map[string]*Service{}, map[string]*Network{}, map[string]*Volume{}
	var version string
	d.fields("", v, map[string]func(string, *value){
		"name":    d.text(&p.Name),
		"version": d.text(&version), // says nothing any more
		"services": func(at string, v *value) {
			d.each(at, v, func(at, name string, v *value) { p.Services[name] = d.service(at, name, v) })
		},
		"networks": func(at string, v *value) {
			d.each(at, v, func(at, name string, v *value) { p.Networks[name] = d.network(at, v) })
		},
		"volumes": func(at string, v *value) {
			d.each(at, v, func(at, name string, v *value) { p.Volumes[name] = d.volume(at, v) })
		},
	})
}

func (d *decoder) service(at, name string, v *value) *Service {
	s := &Service{Name: name, Networks: map[string][]string{}, Environment: map[string]*string{}}
	if v.kind == null {
		d.at(v, at, "nothing, want a mapping")
	}
	d.fields(at, v, map[string]func(string, *value){
		"image":       d.text(&s.Image),
		"pull_policy": d.oneOf(&s.PullPolicy, "missing", "if_not_present", "never"),
		"user":        d.text(&s.User),
		"entrypoint":  d.words(&s.Entrypoint),
		"command":     d.words(&s.Command),
		"env_file":    d.items(func(p string, v *value) { s.EnvFiles = append(s.EnvFiles, d.envFile(p, v)) }),
		"environment": func(p string, v *value) {
			d.each(p, v, func(p, key string, v *value) {
				if v.kind == null {
					s.Environment[key] = nil
				} else if d.is(p, v, scalar) {
					s.Environment[key] = &v.text
				}
			})
		},
		"tty":       d.flag(&s.Tty),
		"read_only": d.flag(&s.ReadOnly),
		"init": func(p string, v *value) {
			s.Init = new(bool)
			d.flag(s.Init)(p, v)
		},
		"networks": func(p string, v *value) {
			d.each(p, v, func(p, key string, v *value) {
				var aliases []string
				d.fields(p, v, map[string]func(string, *value){"aliases": d.texts(&aliases)})
				s.Networks[key] = aliases
			})
		},
		"ports": d.items(func(p string, v *value) {
			if !d.is(p, v, scalar) {
				return
			}
			port, err := parsePort(v.text)
			if err != nil {
				d.at(v, p, "%v", err)
			}
			s.Ports = append(s.Ports, port)
		}),
		"volumes": d.items(func(p string, v *value) {
			if !d.is(p, v, scalar) {
				return
			}
			m, err := parseMount(v.text, d.dir)
			if err != nil {
				d.at(v, p, "%v", err)
			}
			s.Mounts = append(s.Mounts, m)
		}),
		"tmpfs": d.texts(&s.Tmpfs),
		"restart": func(p string, v *value) {
			policy, count, limited := strings.Cut(v.text, ":")
			if _, err := strconv.ParseUint(count, 10, 31); limited && (policy != "on-failure" || err != nil) {
				d.at(v, p, "%q is no restart policy", v.text)
			}
			d.oneOf(&s.Restart, "no", "always", "unless-stopped", "on-failure")(p, &value{v.file, v.line, v.col, v.kind, policy, nil, nil, nil, ""})
			s.Restart = v.text
		},
		"healthcheck": func(p string, v *value) {
			d.fields(p, v, map[string]func(string, *value){"disable": d.flag(&s.NoHealthcheck)})
		},
		"cap_add":      d.texts(&s.CapAdd),
		"cap_drop":     d.texts(&s.CapDrop),
		"security_opt": d.texts(&s.SecurityOpt),
		"pids_limit": func(p string, v *value) {
			n, err := strconv.ParseInt(v.text, 10, 64)
			if d.is(p, v, scalar) && err != nil {
				d.at(v, p, "%q is no number", v.text)
			}
			s.PidsLimit = &n
		},
		"logging": func(p string, v *value) {
			d.fields(p, v, map[string]func(string, *value){"driver": d.text(&s.Logging.Driver), "options": d.dictOf(&s.Logging.Options)})
		},
		"depends_on": func(p string, v *value) {
			d.each(p, v, func(p, key string, v *value) {
				if v.kind != null {
					d.at(v, p, "conditions are not understood: write a list of names")
				}
				s.DependsOn = append(s.DependsOn, key)
			})
			slices.Sort(s.DependsOn)
		},
		"labels": d.dictOf(&s.Labels),
	})
	if len(s.Networks) == 0 {
		s.Networks["default"] = nil
	}
	if s.Image == "" {
		d.at(v, at, "image is missing")
	}
	return s
}

func (d *decoder) envFile(at string, v *value) EnvFile {
	e := EnvFile{Required: true}
	if v.kind == scalar {
		e.Path = v.text
	} else {
		d.fields(at, v, map[string]func(string, *value){"path": d.text(&e.Path), "required": d.flag(&e.Required)})
	}
	if e.Path == "" {
		d.at(v, at, "path is missing")
	} else if !path.IsAbs(e.Path) {
		e.Path = path.Join(d.dir, e.Path)
	}
	return e
}

func (d *decoder) network(at string, v *value) *Network {
	n := &Network{}
	d.fields(at, v, map[string]func(string, *value){
		"name":        d.text(&n.Name),
		"driver":      d.text(&n.Driver),
		"enable_ipv6": d.flag(&n.IPv6),
		"internal":    d.flag(&n.Internal),
		"labels":      d.dictOf(&n.Labels),
		"ipam": func(at string, v *value) {
			d.fields(at, v, map[string]func(string, *value){
				"driver": d.text(&n.IPAM),
				"config": d.items(func(at string, v *value) {
					var p Pool
					d.fields(at, v, map[string]func(string, *value){
						"subnet":   d.text(&p.Subnet),
						"ip_range": d.text(&p.IPRange),
						"gateway":  d.text(&p.Gateway),
					})
					n.Pools = append(n.Pools, p)
				}),
			})
		},
	})
	return n
}

func (d *decoder) volume(at string, v *value) *Volume {
	out := &Volume{}
	d.fields(at, v, map[string]func(string, *value){
		"name":   d.text(&out.Name),
		"driver": d.text(&out.Driver),
		"labels": d.dictOf(&out.Labels),
	})
	return out
}

// check looks at what only the whole can tell, and drops networks and volumes
// that nothing uses.
func (d *decoder) check(p *Project, whole *value) {
	if !isProjectName(p.Name) {
		d.at(whole, "name", "%q, want a name of lower-case letters, digits, - and _ that starts with a letter or digit", p.Name)
	}
	if len(p.Services) == 0 {
		d.at(whole, "services", "there is none")
	}
	networks, volumes := map[string]*Network{}, map[string]*Volume{}
	for _, name := range slices.Sorted(maps.Keys(p.Services)) {
		s := p.Services[name]
		at, v := join("services", name), whole.dict["services"].dict[name]
		for n := range s.Networks {
			if networks[n] = p.Networks[n]; networks[n] == nil {
				if networks[n] = new(Network); n != "default" {
					d.at(v, at, "network %s is not defined", n)
				}
			}
		}
		for _, m := range s.Mounts {
			if !m.Volume {
				continue
			}
			if volumes[m.Source] = p.Volumes[m.Source]; p.Volumes[m.Source] == nil {
				d.at(v, at, "volume %s is not defined", m.Source)
			}
		}
		for _, other := range s.DependsOn {
			if p.Services[other] == nil {
				d.at(v, at, "depends on %s, which is no service", other)
			}
		}
		if dependsOn(p, name, name, map[string]bool{}) {
			d.at(v, at, "depends on itself")
		}
	}
	p.Networks, p.Volumes = networks, volumes
}

func dependsOn(p *Project, from, to string, seen map[string]bool) bool {
	if p.Services[from] == nil {
		return false
	}
	for _, next := range p.Services[from].DependsOn {
		if next == to {
			return true
		}
		if !seen[next] {
			seen[next] = true
			if dependsOn(p, next, to, seen) {
				return true
			}
		}
	}
	return false
}

func isProjectName(s string) bool {
	for i, r := range s {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && (i == 0 || r != '-' && r != '_') {
			return false
		}
	}
	return s != ""
}

// parsePort reads [[IP:][PUBLISHED]:]TARGET[/PROTOCOL], an IPv6 address in
// brackets. Ranges are not understood.
func parsePort(s string) (Port, error) {
	p := Port{Protocol: "tcp"}
	bad := fmt.Errorf("%q is no [[address:]port:]port[/protocol]", s)
	rest, protocol, ok := strings.Cut(s, "/")
	if ok {
		if p.Protocol = protocol; protocol != "tcp" && protocol != "udp" {
			return p, bad
		}
	}
	number := func(s string, to *uint16) bool {
		n, err := strconv.ParseUint(s, 10, 16)
		*to = uint16(n)
		return err == nil && n > 0
	}
	i := strings.LastIndex(rest, ":")
	if !number(rest[i+1:], &p.Target) {
		return p, bad
	}
	if i < 0 {
		return p, nil
	}
	rest = rest[:i]
	i = strings.LastIndex(rest, ":")
	if published := rest[i+1:]; published == "" && i < 0 || published != "" && !number(published, &p.Published) {
		return p, bad
	}
	if i < 0 {
		return p, nil
	}
	ip := rest[:i]
	if strings.HasPrefix(ip, "[") != strings.HasSuffix(ip, "]") {
		return p, bad
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(ip, "["), "]"))
	if err != nil || a.Zone() != "" || a.Is4() == strings.HasPrefix(ip, "[") {
		return p, bad
	}
	p.IP = a.String()
	return p, nil
}

// parseMount reads SOURCE:TARGET[:ro|:rw], where a source with a slash or a dot
// in front is a directory and any other a volume.
func parseMount(s, dir string) (Mount, error) {
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 3 || !path.IsAbs(parts[1]) || parts[0] == "" {
		return Mount{}, fmt.Errorf("%q is no source:/target[:ro]", s)
	}
	m := Mount{Source: parts[0], Target: path.Clean(parts[1])}
	if len(parts) == 3 {
		if m.ReadOnly = parts[2] == "ro"; !m.ReadOnly && parts[2] != "rw" {
			return m, fmt.Errorf("option %q is not understood", parts[2])
		}
	}
	switch {
	case path.IsAbs(m.Source):
		m.Source = path.Clean(m.Source)
	case m.Source[0] == '.':
		m.Source = path.Join(dir, m.Source)
	case strings.ContainsAny(m.Source, "/~"):
		return m, fmt.Errorf("%q is neither a path that starts with / or . nor the name of a volume", m.Source)
	default:
		m.Volume = true
	}
	return m, nil
}

// split takes text apart into words as a shell does: at spaces, with quotes and
// backslashes, and nothing else.
func split(s string) ([]string, error) {
	words := []string{}
	var word strings.Builder
	var quote byte
	open := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quote != '\'':
			if i++; i == len(s) {
				return nil, fmt.Errorf("%q ends in a backslash", s)
			}
			word.WriteByte(s[i])
			open = true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteByte(c)
		case c == '"' || c == '\'':
			quote, open = c, true
		case c == ' ' || c == '\t' || c == '\n':
			if open {
				words = append(words, word.String())
				word.Reset()
			}
			open = false
		default:
			word.WriteByte(c)
			open = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote in %q is not closed", s)
	}
	if open {
		words = append(words, word.String())
	}
	return words, nil
}
