package nodenet

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

const (
	configFile = "/etc/cni/net.d/10-nodenet.conflist"

	// The address leases are kept in memory: after a restart of the node no pod holds its address any more.
	config = `{
  "cniVersion": "0.4.0",
  "name": "nodenet",
  "plugins": [
    {
      "type": "ptp",
      "ipMasq": false,
      "ipam": {
        "type": "host-local",
        "dataDir": "/run/cni-ipam-state",
        "routes": [{"dst": "0.0.0.0/0"}],
        "ranges": [[{"subnet": "%s"}]]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`

	// Declaring the table before deleting it makes the script right whether or not the table exists.
	// Priority 90 is before kube-proxy's own masquerading (100).
	rules = `table ip nodenet
delete table ip nodenet
table ip nodenet {
  chain postrouting {
    type nat hook postrouting priority 90
    ip saddr %[1]s ip daddr != %[1]s fib daddr type != local masquerade
  }
}
`
)

// writeConfig replaces the file by rename, so that containerd never reads half of it.
func writeConfig(podCIDR string) error {
	wanted := fmt.Sprintf(config, podCIDR)
	if current, err := os.ReadFile(configFile); err == nil && string(current) == wanted {
		return nil
	}
	if err := os.WriteFile(configFile+".tmp", []byte(wanted), 0o644); err != nil {
		return err
	}
	return os.Rename(configFile+".tmp", configFile)
}

func masquerade(podSubnet string) error {
	nft := exec.Command("nft", "-f", "-")
	nft.Stdin = strings.NewReader(fmt.Sprintf(rules, podSubnet))
	if output, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, output)
	}
	return nil
}
