// Package cloudinit is what clouds say to a machine: user-data and where it
// comes from. Builder and agent share it, so it imports the standard library
// only.
package cloudinit

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
)

// SettingsDir is where the agent looks for settings that user-data wrote.
const SettingsDir = "/etc/prose-firstboot.d"

// FirstBoot is what the owner of a new machine has to say to it.
type FirstBoot struct {
	Domain         string   // where the Pod will live; see [CheckDomain]
	AuthorizedKeys []string // SSH public keys, as in authorized_keys; may be empty
}

// UserData is the documented form of user-data: a cloud-config that is clean
// under cloud-init's schema (a key of our own would not be) and leaves the
// settings in a file that only root reads.
func (f FirstBoot) UserData() ([]byte, error) {
	if err := CheckDomain(f.Domain); err != nil {
		return nil, err
	}
	var b strings.Builder
	b.WriteString("#cloud-config\n")
	if len(f.AuthorizedKeys) > 0 {
		b.WriteString("ssh_authorized_keys:\n")
	}
	for _, key := range f.AuthorizedKeys {
		key = strings.TrimSpace(key)
		if err := CheckAuthorizedKey(key); err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "  - %s\n", quote(key))
	}
	fmt.Fprintf(&b, `write_files:
  - path: %s/10-domain.yaml
    owner: root:root
    permissions: "0600"
    content: |
      domain: %s
`, SettingsDir, f.Domain)
	return []byte(b.String()), nil
}

// MetaData is what goes with [FirstBoot.UserData]. The instance-id follows the
// domain alone: cloud-init takes another one for another machine, and would
// make new host keys.
func (f FirstBoot) MetaData() ([]byte, error) {
	if err := CheckDomain(f.Domain); err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "instance-id: prose-%s\nlocal-hostname: prose.%s\n", f.Domain, f.Domain), nil
}

// quote writes a string as YAML: JSON's form is one of YAML's.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return `""`
	}
	return string(b)
}

// CheckAuthorizedKey reports whether a line is a public key as authorized_keys
// has it, without options: a type, base64 that begins with the same type as an
// SSH string (RFC 4253 section 6.6), and perhaps a comment.
func CheckAuthorizedKey(line string) error {
	fail := func(what string) error { return &KeyError{Key: abridge(line), What: what} }
	if strings.Contains(line, "PRIVATE KEY") {
		return &KeyError{Key: "(hidden)", What: "is a private key: give the file that ends in .pub"}
	}
	for _, r := range line {
		if r < ' ' || r == 0x7f {
			return fail("has more than one line or control characters")
		}
	}
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return fail(`is not "TYPE BASE64 COMMENT"`)
	}
	blob, err := base64.StdEncoding.DecodeString(fields[1])
	if err != nil {
		return fail("has no base64 after its type")
	}
	if len(blob) < 4 || uint64(binary.BigEndian.Uint32(blob)) > uint64(len(blob)-4) {
		return fail("is cut short")
	}
	name := string(blob[4 : 4+binary.BigEndian.Uint32(blob)])
	if name != fields[0] {
		return fail(fmt.Sprintf("says %q but is %q", fields[0], name))
	}
	if len(blob) < 4+len(name)+32 { // ed25519 is the shortest key: 32 bytes and their length
		return fail("is cut short")
	}
	return nil
}

// A KeyError says what is wrong with an SSH public key.
type KeyError struct{ Key, What string }

func (e *KeyError) Error() string { return fmt.Sprintf("ssh key %q %s", e.Key, e.What) }

// Hint is the next thing to try.
func (e *KeyError) Hint() string { return "paste the whole line of ~/.ssh/id_ed25519.pub" }

func abridge(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:37]) + "..."
	}
	return s
}
