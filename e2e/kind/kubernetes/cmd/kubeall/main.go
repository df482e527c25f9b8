// Command kubeall is every Kubernetes program a node needs, linked into one binary.
//
// The programs share nearly all of their code, so one binary of 146 MiB replaces a gigabyte of separate
// ones. It runs as the program whose name it was called by (a symlink), or which its first argument names.
package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	_ "time/tzdata" // CronJobs name time zones, and the images have no zoneinfo

	"klamm.dev/kind/kubernetes/internal/nodenet"
	"klamm.dev/kind/kubernetes/internal/nodestore"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubeadm "k8s.io/kubernetes/cmd/kubeadm/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

var programs = map[string]func() error{
	"kube-apiserver":          func() error { return runCommand(apiserver.NewAPIServerCommand()) },
	"kube-controller-manager": func() error { return runCommand(controllermanager.NewControllerManagerCommand()) },
	"kube-proxy":              func() error { return runCommand(proxy.NewProxyCommand()) },
	"kube-scheduler":          func() error { return runCommand(scheduler.NewSchedulerCommand()) },
	"kubeadm":                 kubeadm.Run,
	"kubectl":                 func() error { return runCommand(kubectl.NewDefaultKubectlCommand()) },
	"kubelet":                 func() error { return runCommand(kubelet.NewKubeletCommand(context.Background())) },
	"nodenet":                 nodenet.Run,
	"nodestore":               nodestore.Run,
}

// runCommand ends the process itself on failure: the commands choose their own exit codes.
func runCommand(command *cobra.Command) error {
	if code := cli.Run(command); code != 0 {
		os.Exit(code)
	}
	return nil
}

func main() {
	run, ok := programs[filepath.Base(os.Args[0])]
	if !ok && len(os.Args) > 1 {
		os.Args = os.Args[1:]
		run, ok = programs[os.Args[0]]
	}
	if !ok {
		names := slices.Sorted(maps.Keys(programs))
		fmt.Fprintf(os.Stderr, "usage: kubeall {%s} [flags]\n", strings.Join(names, "|"))
		os.Exit(2)
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
