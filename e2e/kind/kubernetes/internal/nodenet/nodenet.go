// Package nodenet gives pods their network: the part that kindnetd plays in kind's own node image.
//
// One instance runs on every node. It writes the CNI configuration for the node's pod CIDR, keeps a route to
// every other node's pod CIDR, and masquerades traffic that leaves the pod subnet. All nodes are neighbours
// on one bridge, so plain routes do and no tunnel is needed. IPv4 only; NetworkPolicy is not enforced.
package nodenet

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const retryDelay = time.Second

type agent struct {
	nodes    kubernetes.Interface
	nodeName string
}

// Run serves the node named by NODE_NAME until the process is stopped.
//
// CONTROL_PLANE_ENDPOINT is where the API server is reached: Service addresses do not work before
// kube-proxy runs. POD_SUBNET is the subnet of all pods.
func Run() error {
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	if endpoint := os.Getenv("CONTROL_PLANE_ENDPOINT"); endpoint != "" {
		config.Host = "https://" + endpoint
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if err := masquerade(os.Getenv("POD_SUBNET")); err != nil {
		return err
	}
	a := agent{nodes: client, nodeName: os.Getenv("NODE_NAME")}
	for {
		if err := a.followNodes(context.Background()); err != nil {
			log.Print(err)
		}
		time.Sleep(retryDelay)
	}
}

// followNodes lists and then watches; it returns when the watch ends.
func (a agent) followNodes(ctx context.Context) error {
	list, err := a.nodes.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	for i := range list.Items {
		a.nodeChanged(&list.Items[i])
	}
	w, err := a.nodes.CoreV1().Nodes().Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return fmt.Errorf("watch nodes: %w", err)
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		node, ok := event.Object.(*v1.Node)
		if !ok {
			return errors.New("watch of nodes expired")
		}
		if event.Type == watch.Deleted {
			a.nodeDeleted(node)
		} else {
			a.nodeChanged(node)
		}
	}
	return nil
}

func (a agent) nodeChanged(node *v1.Node) {
	if node.Spec.PodCIDR == "" {
		return
	}
	var err error
	if node.Name == a.nodeName {
		err = errors.Join(writeConfig(node.Spec.PodCIDR), refuseUnused(node.Spec.PodCIDR))
	} else if gateway := internalIP(node); gateway != nil {
		err = replaceRoute(node.Spec.PodCIDR, gateway)
	}
	if err != nil {
		log.Printf("node %s: %v", node.Name, err)
	}
}

func (a agent) nodeDeleted(node *v1.Node) {
	_, destination, err := net.ParseCIDR(node.Spec.PodCIDR)
	if err != nil || node.Name == a.nodeName {
		return
	}
	if err := netlink.RouteDel(&netlink.Route{Dst: destination}); err != nil {
		log.Printf("node %s: remove route to %s: %v", node.Name, destination, err)
	}
}

// refuseUnused lets connections to a pod that is gone fail at once. Its own route goes with it, and without
// another one they would follow the default route to whoever answers outside.
func refuseUnused(podCIDR string) error {
	_, destination, err := net.ParseCIDR(podCIDR)
	if err != nil {
		return err
	}
	return netlink.RouteReplace(&netlink.Route{Dst: destination, Type: syscall.RTN_UNREACHABLE})
}

func replaceRoute(podCIDR string, gateway net.IP) error {
	_, destination, err := net.ParseCIDR(podCIDR)
	if err != nil {
		return err
	}
	return netlink.RouteReplace(&netlink.Route{Dst: destination, Gw: gateway})
}

func internalIP(node *v1.Node) net.IP {
	for _, address := range node.Status.Addresses {
		if address.Type != v1.NodeInternalIP {
			continue
		}
		if ip := net.ParseIP(address.Address).To4(); ip != nil {
			return ip
		}
	}
	return nil
}
