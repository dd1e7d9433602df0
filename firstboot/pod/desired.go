package pod

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/prose-im/prose-image/firstboot/engine"
)

// Labels by which "docker compose ps" and "logs" know what belongs to a project
// (compose-spec/compose, pkg/api/labels.go).
const (
	labelProject = "com.docker.compose.project"
	labelService = "com.docker.compose.service"
	labelNumber  = "com.docker.compose.container-number"
	labelOneoff  = "com.docker.compose.oneoff"
	labelHash    = "com.docker.compose.config-hash"
	labelFiles   = "com.docker.compose.project.config_files"
	labelDir     = "com.docker.compose.project.working_dir"
	labelDepends = "com.docker.compose.depends_on"
	labelNetwork = "com.docker.compose.network"
	labelVolume  = "com.docker.compose.volume"
)

// Desired is what the engine should have.
type Desired struct {
	Project    string
	Networks   []engine.Network
	Volumes    []engine.Volume
	Containers []Container // by name of their services, those depended on first
}

// A Container is a container to have.
type Container struct {
	Service   string
	Name      string
	Pull      bool // fetch the image if it is missing
	Config    engine.Config
	More      map[string]engine.Endpoint // networks beside the first
	DependsOn []string
}

// Hash is what the container was made from. It is ours, not the one that Compose
// computes: to Compose our containers look outdated, and to us Compose's do.
func (c *Container) Hash() string { return c.Config.Labels[labelHash] }

// EnvFiles lists the files that Want must be given the content of.
func (p *Project) EnvFiles() []EnvFile {
	var out []EnvFile
	for _, name := range slices.Sorted(maps.Keys(p.Services)) {
		for _, e := range p.Services[name].EnvFiles {
			if !slices.Contains(out, e) {
				out = append(out, e)
			}
		}
	}
	return out
}

// Want says what the engine should have for a project. files has the content of
// the services' environment files by path; variables in those come from env.
func Want(p *Project, files map[string][]byte, env map[string]string) (Desired, error) {
	var ps problems
	d := Desired{Project: p.Name}
	for _, key := range slices.Sorted(maps.Keys(p.Networks)) {
		d.Networks = append(d.Networks, p.network(key))
	}
	for _, key := range slices.Sorted(maps.Keys(p.Volumes)) {
		v := p.Volumes[key]
		d.Volumes = append(d.Volumes, engine.Volume{Name: p.volumeName(key), Driver: v.Driver,
			Labels: with(v.Labels, labelProject, p.Name, labelVolume, key)})
	}
	for _, s := range p.ordered() {
		variables, err := s.variables(files, env)
		if err != nil {
			ps = append(ps, err)
		}
		d.Containers = append(d.Containers, p.container(s, variables))
	}
	return d, ps.err()
}

// ordered gives the services, those depended on first.
func (p *Project) ordered() []*Service {
	var out []*Service
	seen := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		for _, d := range p.Services[name].DependsOn {
			visit(d)
		}
		out = append(out, p.Services[name])
	}
	for _, name := range slices.Sorted(maps.Keys(p.Services)) {
		visit(name)
	}
	return out
}

func (p *Project) networkName(key string) string {
	if n := p.Networks[key]; n.Name != "" {
		return n.Name
	}
	return p.Name + "_" + key
}

func (p *Project) volumeName(key string) string {
	if v := p.Volumes[key]; v.Name != "" {
		return v.Name
	}
	return p.Name + "_" + key
}

func (p *Project) network(key string) engine.Network {
	n := p.Networks[key]
	out := engine.Network{Name: p.networkName(key), Driver: n.Driver, EnableIPv6: n.IPv6, Internal: n.Internal,
		IPAM: engine.IPAM{Driver: n.IPAM}, Labels: with(n.Labels, labelProject, p.Name, labelNetwork, key)}
	if out.Driver == "" {
		out.Driver = "bridge"
	}
	for _, pool := range n.Pools {
		out.IPAM.Config = append(out.IPAM.Config, engine.Pool(pool))
	}
	b, err := json.Marshal(out)
	if err != nil {
		panic(err) // text always marshals
	}
	out.Labels[labelHash] = fmt.Sprintf("%x", sha256.Sum256(b))
	return out
}

// variables is a container's environment: its files, and over them its own.
func (s *Service) variables(files map[string][]byte, env map[string]string) ([]string, error) {
	var ps problems
	all := map[string]string{}
	for _, f := range s.EnvFiles {
		content, ok := files[f.Path]
		if !ok {
			if f.Required {
				ps = append(ps, &Problem{File: f.Path, Text: "the file is missing; service " + s.Name + " wants it"})
			}
			continue
		}
		more, err := ParseEnv(f.Path, content, env)
		if err != nil {
			ps = append(ps, err)
		}
		maps.Copy(all, more)
	}
	for k, v := range s.Environment {
		if v != nil {
			all[k] = *v
		} else if set, ok := env[k]; ok {
			all[k] = set
		} else {
			delete(all, k)
		}
	}
	var out []string
	for _, k := range slices.Sorted(maps.Keys(all)) {
		out = append(out, k+"="+all[k])
	}
	return out, ps.err()
}

func (p *Project) container(s *Service, variables []string) Container {
	c := Container{Service: s.Name, Name: p.Name + "-" + s.Name + "-1", Pull: s.PullPolicy != "never", DependsOn: s.DependsOn}
	var depends []string
	for _, d := range s.DependsOn {
		depends = append(depends, d+":service_started:false")
	}
	policy, count, _ := strings.Cut(s.Restart, ":")
	if policy == "" {
		policy = "no"
	}
	tries, _ := strconv.Atoi(count) // Parse has looked at it
	c.Config = engine.Config{
		Image: s.Image, User: s.User, Env: variables, Entrypoint: none(s.Entrypoint), Cmd: s.Command, Tty: s.Tty,
		AttachStdout: true, AttachStderr: true,
		Labels: with(s.Labels, labelProject, p.Name, labelService, s.Name, labelNumber, "1", labelOneoff, "False"),
		HostConfig: engine.HostConfig{
			RestartPolicy: engine.RestartPolicy{Name: policy, MaximumRetryCount: tries},
			LogConfig:     engine.LogConfig{Type: s.Logging.Driver, Config: s.Logging.Options},
			CapAdd:        s.CapAdd, CapDrop: s.CapDrop, SecurityOpt: s.SecurityOpt, PidsLimit: s.PidsLimit,
			ReadonlyRootfs: s.ReadOnly, Init: s.Init,
		},
	}
	if s.NoHealthcheck {
		c.Config.Healthcheck = &engine.Healthcheck{Test: []string{"NONE"}}
	}
	host := &c.Config.HostConfig
	for _, port := range s.Ports {
		if c.Config.ExposedPorts == nil {
			c.Config.ExposedPorts, host.PortBindings = map[string]struct{}{}, map[string][]engine.Binding{}
		}
		key := fmt.Sprintf("%d/%s", port.Target, port.Protocol)
		b := engine.Binding{HostIP: port.IP}
		if port.Published != 0 {
			b.HostPort = strconv.Itoa(int(port.Published))
		}
		c.Config.ExposedPorts[key] = struct{}{}
		host.PortBindings[key] = append(host.PortBindings[key], b)
	}
	for _, m := range s.Mounts {
		mount := engine.Mount{Type: "bind", Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly}
		if m.Volume {
			mount.Type, mount.Source = "volume", p.volumeName(m.Source)
		}
		host.Mounts = append(host.Mounts, mount)
	}
	for _, t := range s.Tmpfs {
		if host.Tmpfs == nil {
			host.Tmpfs = map[string]string{}
		}
		target, options, _ := strings.Cut(t, ":")
		host.Tmpfs[path.Clean(target)] = options
	}
	for i, key := range slices.Sorted(maps.Keys(s.Networks)) {
		name := p.networkName(key)
		e := engine.Endpoint{Aliases: append([]string{c.Name, s.Name}, s.Networks[key]...)}
		if i == 0 {
			host.NetworkMode = name
			c.Config.NetworkingConfig.EndpointsConfig = map[string]engine.Endpoint{name: e}
			continue
		}
		if c.More == nil {
			c.More = map[string]engine.Endpoint{}
		}
		c.More[name] = e
	}
	b, err := json.Marshal(c)
	if err != nil {
		panic(err) // text and numbers always marshal
	}
	c.Config.Labels[labelHash] = fmt.Sprintf("%x", sha256.Sum256(b))
	// Where the settings came from is none of them.
	c.Config.Labels[labelFiles] = strings.Join(p.Files, ",")
	c.Config.Labels[labelDir] = p.Dir
	c.Config.Labels[labelDepends] = strings.Join(depends, ",")
	return c
}

// none is an entry point of no words as the engine wants it: an empty list would
// leave the image's.
func none(words []string) []string {
	if words != nil && len(words) == 0 {
		return []string{""}
	}
	return words
}

// with is labels and more, which are names and values in turn.
func with(labels map[string]string, more ...string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, labels)
	for i := 0; i+1 < len(more); i += 2 {
		out[more[i]] = more[i+1]
	}
	return out
}
