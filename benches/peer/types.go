package main

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var groupVersion = schema.GroupVersion{Group: "vncpassword.dev", Version: "v1alpha1"}

// VncPassword has the fields that applying a user's Secret needs.
type VncPassword struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   VncPasswordSpec   `json:"spec"`
	Status VncPasswordStatus `json:"status,omitempty"`
}

type VncPasswordSpec struct {
	InstanceID string    `json:"instanceId"`
	RegionID   string    `json:"regionId,omitempty"`
	SecretRef  SecretRef `json:"secretRef"`
	Suspend    bool      `json:"suspend,omitempty"`
}

type SecretRef struct {
	Name string `json:"name"`
	Key  string `json:"key"`
}

type VncPasswordStatus struct {
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
	RequestID          string             `json:"requestId,omitempty"`
	LastRotationTime   *metav1.Time       `json:"lastRotationTime,omitempty"`
	Rotations          int64              `json:"rotations,omitempty"`
	Applied            *Applied           `json:"applied,omitempty"`
	Instance           *Instance          `json:"instance,omitempty"`
}

type Applied struct {
	SecretUID             string      `json:"secretUid"`
	SecretResourceVersion string      `json:"secretResourceVersion"`
	Time                  metav1.Time `json:"time"`
}

type Instance struct {
	RegionID string `json:"regionId,omitempty"`
}

type VncPasswordList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []VncPassword `json:"items"`
}

func addToScheme(scheme *runtime.Scheme) {
	scheme.AddKnownTypes(groupVersion, &VncPassword{}, &VncPasswordList{})
	metav1.AddToGroupVersion(scheme, groupVersion)
}

func (in *VncPassword) DeepCopyObject() runtime.Object {
	out := *in
	out.ObjectMeta = *in.ObjectMeta.DeepCopy()
	out.Status = in.Status.deepCopy()
	return &out
}

func (in *VncPasswordStatus) deepCopy() VncPasswordStatus {
	out := *in
	if in.Conditions != nil {
		out.Conditions = make([]metav1.Condition, len(in.Conditions))
		for i := range in.Conditions {
			in.Conditions[i].DeepCopyInto(&out.Conditions[i])
		}
	}
	out.LastRotationTime = in.LastRotationTime.DeepCopy()
	if in.Applied != nil {
		applied := *in.Applied
		out.Applied = &applied
	}
	if in.Instance != nil {
		instance := *in.Instance
		out.Instance = &instance
	}
	return out
}

func (in *VncPasswordList) DeepCopyObject() runtime.Object {
	out := *in
	out.ListMeta = *in.ListMeta.DeepCopy()
	out.Items = make([]VncPassword, len(in.Items))
	for i := range in.Items {
		out.Items[i] = *in.Items[i].DeepCopyObject().(*VncPassword)
	}
	return &out
}
