package settings

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/prose-im/prose-image/cloudinit"
)

// A WrittenFile is one that user-data wants to have in the settings' directory.
type WrittenFile struct {
	Name string // of the file alone
	Text []byte
}

// WrittenFiles are the files of settings among the write_files of a
// cloud-config, in its order, for a machine whose cloud-init does not write
// them (cloud-init's reference, "Write Files"). What it writes elsewhere is
// cloud-init's affair.
func WrittenFiles(cloudConfig []byte) ([]WrittenFile, error) {
	y, err := readYAML(cloudConfig)
	if err != nil {
		return nil, fmt.Errorf("reading user-data: %w", err)
	}
	list := valueOf(y, "write_files")
	if list == nil || list.Kind != yaml.SequenceNode {
		return nil, nil
	}
	var out []WrittenFile
	for _, y := range list.Content {
		at := text(valueOf(y, "path"))
		name := path.Base(at)
		if path.Dir(at) != cloudinit.SettingsDir || strings.HasPrefix(name, ".") || path.Ext(name) != ".yaml" && path.Ext(name) != ".json" {
			continue
		}
		b, err := decode(text(valueOf(y, "content")), text(valueOf(y, "encoding")))
		if err != nil {
			return nil, fmt.Errorf("reading user-data: %s: %w", at, err)
		}
		out = append(out, WrittenFile{name, b})
	}
	return out, nil
}

// valueOf is the value of a key, nil when there is none.
func valueOf(y *yaml.Node, key string) *yaml.Node {
	if y == nil || y.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(y.Content); i += 2 {
		if y.Content[i].Value == key {
			return y.Content[i+1]
		}
	}
	return nil
}

// text is a scalar's text.
func text(y *yaml.Node) string {
	if y == nil || y.Kind != yaml.ScalarNode {
		return ""
	}
	return y.Value
}

// decode undoes an encoding of write_files. Errors do not show the content.
func decode(content, encoding string) ([]byte, error) {
	b := []byte(content)
	base, packed := false, false
	switch strings.ToLower(encoding) {
	case "", "text/plain":
	case "b64", "base64":
		base = true
	case "gz", "gzip":
		packed = true
	case "gz+b64", "gzip+b64", "gz+base64", "gzip+base64":
		base, packed = true, true
	default:
		return nil, errors.New("its encoding is none of cloud-init's")
	}
	if base {
		plain, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(content), ""))
		if err != nil {
			return nil, errors.New("it is no base64")
		}
		b = plain
	}
	if packed {
		r, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, errors.New("it is no gzip")
		}
		if b, err = io.ReadAll(io.LimitReader(r, cloudinit.MaxInput+1)); err != nil {
			return nil, errors.New("it is broken gzip")
		}
	}
	if len(b) > cloudinit.MaxInput {
		return nil, fmt.Errorf("it is larger than %d bytes", cloudinit.MaxInput)
	}
	return b, nil
}
