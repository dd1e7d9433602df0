package packer

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/prose-im/prose-image/builder/recipe"
)

// values gives the attribute of each key of a recipe.
func (c *Config) values() map[string]any {
	return map[string]any{
		"name": c.Name, "version": c.Version, "arch": c.Arch, "platforms": c.Platforms, "overlays": c.Overlays, "formats": c.Formats,
		"base.suite": c.Base.Suite, "base.kernel": c.Base.Kernel, "base.mirrors": c.Base.Mirrors, "base.packages": c.Base.Packages,
		"base.run": c.Base.Run, "pod.bundle": c.Pod.Bundle, "pod.images": c.Pod.Images, "pod.mirror": c.Pod.Mirror,
		"disk.free": c.Disk.Free, "disk.size": c.Disk.Size,
	}
}

// document writes the attributes that are set as a recipe, one key or member of
// a table a line, and names the attribute of each line.
func (c *Config) document() (src []byte, attributes []string) {
	src = []byte{} // the empty recipe is one too
	values := c.values()
	line := func(attribute, key, value string) {
		src = fmt.Appendf(src, "%s = %s\n", key, value)
		attributes = append(attributes, attribute)
	}
	for _, k := range recipe.Keys {
		switch v := values[k.Name].(type) {
		case string:
			if v != "" {
				line(k.Name, k.Name, quote(v))
			}
		case []string:
			if v == nil {
				continue
			}
			var list []string
			for _, e := range v {
				list = append(list, quote(e))
			}
			line(k.Name, k.Name, "["+strings.Join(list, ", ")+"]")
		case map[string]string:
			for _, member := range slices.Sorted(maps.Keys(v)) {
				line(fmt.Sprintf("%s[%q]", k.Name, member), k.Name+"."+quote(member), quote(v[member]))
			}
		}
	}
	return src, attributes
}

// quote writes a string as TOML, on one line; as such it is also a key.
func quote(s string) string {
	b, err := toml.Marshal(map[string]string{"v": s})
	if err != nil {
		return fmt.Sprintf("%q", s) // the recipe's parser says what is wrong with it
	}
	return string(bytes.TrimSuffix(bytes.TrimPrefix(b, []byte("v = ")), []byte("\n")))
}
