// Package nodestore provisions the volumes of StorageClass standard: directories on the node that runs the pod.
//
// It plays the part of local-path-provisioner in kind's own node image. One instance runs on every node and
// serves only the claims that the scheduler gave to that node, so no helper pods are needed. The requested
// size is recorded, not enforced.
package nodestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

const (
	provisionerName        = "kind.klamm.dev/directory"
	directoryAnnotation    = "kind.klamm.dev/directory"
	nodeAnnotation         = "kind.klamm.dev/node"
	selectedNodeAnnotation = "volume.kubernetes.io/selected-node"
)

type provisioner struct {
	root     string
	nodeName string
}

// Run serves the node named by NODE_NAME, with volumes below the directory ROOT.
func Run() error {
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	p := provisioner{root: os.Getenv("ROOT"), nodeName: os.Getenv("NODE_NAME")}
	ctx := context.Background()
	controller.NewProvisionController(ctx, client, provisionerName, p, controller.LeaderElection(false)).Run(ctx)
	return errors.New("the provision controller ended")
}

func (p provisioner) ShouldProvision(_ context.Context, claim *v1.PersistentVolumeClaim) bool {
	return claim.Annotations[selectedNodeAnnotation] == p.nodeName
}

func (p provisioner) ShouldDelete(_ context.Context, volume *v1.PersistentVolume) bool {
	return volume.Annotations[nodeAnnotation] == p.nodeName
}

func (p provisioner) Provision(_ context.Context, options controller.ProvisionOptions) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	if mode := options.PVC.Spec.VolumeMode; mode != nil && *mode == v1.PersistentVolumeBlock {
		return nil, controller.ProvisioningFinished, errors.New("block volumes are not supported")
	}
	directory := filepath.Join(p.root, options.PVName)
	if err := os.MkdirAll(directory, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	// Pods run as any user, and the umask has narrowed the mode given above.
	if err := os.Chmod(directory, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	return p.volume(options, directory), controller.ProvisioningFinished, nil
}

func (p provisioner) volume(options controller.ProvisionOptions, directory string) *v1.PersistentVolume {
	onThisNode := v1.NodeSelectorTerm{MatchExpressions: []v1.NodeSelectorRequirement{{
		Key:      v1.LabelHostname,
		Operator: v1.NodeSelectorOpIn,
		Values:   []string{p.nodeName},
	}}}
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name:        options.PVName,
			Annotations: map[string]string{directoryAnnotation: directory, nodeAnnotation: p.nodeName},
		},
		Spec: v1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			AccessModes:                   options.PVC.Spec.AccessModes,
			Capacity: v1.ResourceList{
				v1.ResourceStorage: options.PVC.Spec.Resources.Requests[v1.ResourceStorage],
			},
			PersistentVolumeSource: v1.PersistentVolumeSource{
				Local: &v1.LocalVolumeSource{Path: directory},
			},
			NodeAffinity: &v1.VolumeNodeAffinity{
				Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{onThisNode}},
			},
		},
	}
}

func (p provisioner) Delete(_ context.Context, volume *v1.PersistentVolume) error {
	directory := volume.Annotations[directoryAnnotation]
	// The annotation can be edited by anybody who may edit volumes; only a direct child of the root is ours.
	if filepath.Dir(directory) != p.root || filepath.Base(directory) == ".." {
		return fmt.Errorf("refusing to delete %q: not a volume directory below %s", directory, p.root)
	}
	return os.RemoveAll(directory)
}
