// Command peer does the main job of vncpassword-operator on controller-runtime: a user's Secret becomes the VNC password of an
// instance. It is there to be measured against, see docs/benchmarks.md, and is tuned as such: Secrets are watched as metadata only,
// caches drop what is not needed, the client is not throttled, a worker that finds an object in sync makes no request.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

const (
	fieldManager = "vncpassword-peer"
	secretIndex  = "spec.secretRef.name"
)

var password = regexp.MustCompile("^[A-Za-z0-9]{6}$")

func main() {
	region := flag.String("region", "", "region of objects that name none")
	endpoint := flag.String("ecs-endpoint", "", "URL of the ECS API")
	address := flag.String("http-addr", "127.0.0.1:8080", "address of /healthz and /readyz")
	workers := flag.Int("max-concurrent-reconciles", 32, "objects that are worked on at the same time")
	flag.Parse()
	if err := run(*region, *endpoint, *address, *workers); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func run(region, endpoint, address string, workers int) error {
	// As a program in production logs: one line a call, and what goes wrong.
	ctrl.SetLogger(logr.FromSlogHandler(slog.NewTextHandler(os.Stderr, nil)))
	ecs, err := newECSClient(endpoint, os.Getenv("ALIBABA_CLOUD_ACCESS_KEY_ID"), os.Getenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET"), workers)
	if err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	config.QPS = -1

	scheme := runtime.NewScheme()
	addToScheme(scheme)
	if err := errors.Join(corev1.AddToScheme(scheme), eventsv1.AddToScheme(scheme)); err != nil {
		return err
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme,
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{
			&VncPassword{}:   {Transform: cache.TransformStripManagedFields()},
			secretMetadata(): {Transform: slim},
		}},
		Metrics:                server.Options{BindAddress: "0"},
		HealthProbeBindAddress: address,
	})
	if err != nil {
		return err
	}
	ctx := ctrl.SetupSignalHandler()
	bySecret := func(object client.Object) []string { return []string{object.(*VncPassword).Spec.SecretRef.Name} }
	if err := mgr.GetFieldIndexer().IndexField(ctx, &VncPassword{}, secretIndex, bySecret); err != nil {
		return err
	}
	r := &reconciler{
		// A client that goes past the cache for Secrets would do so for their metadata too.
		cache: mgr.GetCache(), api: mgr.GetAPIReader(), client: mgr.GetClient(),
		ecs: ecs, events: mgr.GetEventRecorder(fieldManager), region: region,
	}
	err = ctrl.NewControllerManagedBy(mgr).
		For(&VncPassword{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesMetadata(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.readers),
			builder.WithPredicates(predicate.ResourceVersionChangedPredicate{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers, ReconciliationTimeout: 30 * time.Second}).
		Complete(r)
	if err := errors.Join(err, addReadiness(mgr)); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

// addReadiness makes /readyz answer 200 once the caches have listed everything.
func addReadiness(mgr ctrl.Manager) error {
	var synced atomic.Bool
	ready := func(*http.Request) error {
		if !synced.Load() {
			return errors.New("the caches have not listed everything yet")
		}
		return nil
	}
	watch := manager.RunnableFunc(func(ctx context.Context) error {
		synced.Store(mgr.GetCache().WaitForCacheSync(ctx))
		return nil
	})
	return errors.Join(mgr.AddReadyzCheck("caches", ready), mgr.Add(watch))
}

func secretMetadata() *metav1.PartialObjectMetadata {
	secret := &metav1.PartialObjectMetadata{}
	secret.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	return secret
}

// slim leaves of a Secret's metadata what this program uses.
func slim(object any) (any, error) {
	if secret, ok := object.(*metav1.PartialObjectMetadata); ok {
		secret.ObjectMeta = metav1.ObjectMeta{
			Namespace: secret.Namespace, Name: secret.Name, UID: secret.UID, ResourceVersion: secret.ResourceVersion,
		}
	}
	return object, nil
}

type reconciler struct {
	cache  client.Reader
	api    client.Reader
	client client.Client
	ecs    *ecsClient
	events events.EventRecorder
	region string
}

// readers are the objects that name a Secret.
func (r *reconciler) readers(ctx context.Context, secret client.Object) []reconcile.Request {
	var list VncPasswordList
	// UnsafeDisableDeepCopy: the objects are only read.
	err := r.cache.List(ctx, &list, client.InNamespace(secret.GetNamespace()),
		client.MatchingFields{secretIndex: secret.GetName()}, client.UnsafeDisableDeepCopy)
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "cannot list the readers of a Secret")
		return nil
	}
	requests := make([]reconcile.Request, len(list.Items))
	for i := range list.Items {
		requests[i].NamespacedName = client.ObjectKeyFromObject(&list.Items[i])
	}
	return requests
}

func (r *reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	var object VncPassword
	if err := r.cache.Get(ctx, request.NamespacedName, &object); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if object.Spec.Suspend {
		return reconcile.Result{}, nil
	}
	name := types.NamespacedName{Namespace: object.Namespace, Name: object.Spec.SecretRef.Name}
	metadata := secretMetadata()
	if err := r.cache.Get(ctx, name, metadata); err != nil && !apierrors.IsNotFound(err) {
		return reconcile.Result{}, err
	}
	applied := object.Status.Applied
	if applied != nil && applied.SecretUID == string(metadata.UID) && applied.SecretResourceVersion == metadata.ResourceVersion {
		return reconcile.Result{}, nil
	}
	var secret corev1.Secret
	if err := r.api.Get(ctx, name, &secret); err != nil {
		if apierrors.IsNotFound(err) {
			return reconcile.Result{}, r.stall(ctx, &object, "SecretNotFound", "The Secret does not exist: create it.")
		}
		return reconcile.Result{}, err
	}
	value := secret.Data[object.Spec.SecretRef.Key]
	if !password.Match(value) {
		return reconcile.Result{}, r.stall(ctx, &object, "InvalidPassword", "A VNC password is exactly 6 of A-Z, a-z and 0-9.")
	}
	region := object.Spec.RegionID
	if region == "" {
		region = r.region
	}
	requestID, err := r.ecs.modify(ctx, region, object.Spec.InstanceID, string(value))
	if err != nil {
		return reconcile.Result{}, err
	}
	ctrl.LoggerFrom(ctx).Info("password accepted", "instance", object.Spec.InstanceID, "requestId", requestID)
	now := metav1.Now()
	status := VncPasswordStatus{
		Conditions: object.condition(metav1.ConditionTrue, "Applied", "The Secret's value is the VNC password of the instance."),
		RequestID:  requestID, LastRotationTime: &now, Rotations: object.Status.Rotations + 1,
		Applied:  &Applied{SecretUID: string(secret.UID), SecretResourceVersion: secret.ResourceVersion, Time: now},
		Instance: &Instance{RegionID: region},
	}
	if err := r.write(ctx, &object, status); err != nil {
		return reconcile.Result{}, err
	}
	r.events.Eventf(&object, nil, corev1.EventTypeNormal, "Applied", "Apply", "The instance has taken the password of the Secret.")
	return reconcile.Result{}, nil
}

func (r *reconciler) stall(ctx context.Context, object *VncPassword, reason, message string) error {
	status := object.Status.deepCopy()
	status.Conditions = object.condition(metav1.ConditionFalse, reason, message)
	if err := r.write(ctx, object, status); err != nil {
		return err
	}
	r.events.Eventf(object, nil, corev1.EventTypeWarning, reason, "Apply", message)
	return nil
}

// condition is Ready, with the time of its last transition.
func (in *VncPassword) condition(value metav1.ConditionStatus, reason, message string) []metav1.Condition {
	condition := metav1.Condition{
		Type: "Ready", Status: value, Reason: reason, Message: message,
		ObservedGeneration: in.Generation, LastTransitionTime: metav1.Now(),
	}
	for _, former := range in.Status.Conditions {
		if former.Type == condition.Type && former.Status == condition.Status {
			condition.LastTransitionTime = former.LastTransitionTime
		}
	}
	return []metav1.Condition{condition}
}

// write applies the status under the version that was decided on, as vncpassword-operator does.
func (r *reconciler) write(ctx context.Context, object *VncPassword, status VncPasswordStatus) error {
	status.ObservedGeneration = object.Generation
	body, err := json.Marshal(map[string]any{
		"apiVersion": groupVersion.String(), "kind": "VncPassword",
		"metadata": map[string]any{"name": object.Name, "uid": object.UID, "resourceVersion": object.ResourceVersion},
		"status":   status,
	})
	if err != nil {
		return err
	}
	return r.client.Status().Patch(ctx, object, client.RawPatch(types.ApplyPatchType, body), client.FieldOwner(fieldManager), client.ForceOwnership)
}
