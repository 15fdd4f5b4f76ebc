// kube-controller-manager starts the controllers of Kubernetes that the bed needs: the real ones, from the real sources.
//
// The program of this name that Kubernetes releases has some forty more. They bring the scheduler and the drivers of volumes, which
// nothing in the bed uses and which take a fifth of the time in which the control plane is built.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"
	apiextensionsscheme "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/scheme"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/cel/openapi/resolver"
	"k8s.io/apiserver/pkg/quota/v1/generic"
	"k8s.io/client-go/discovery"
	cacheddiscovery "k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	k8sscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/scale"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/client-go/util/keyutil"
	"k8s.io/controller-manager/pkg/informerfactory"
	"k8s.io/klog/v2"
	pkgcontroller "k8s.io/kubernetes/pkg/controller"
	"k8s.io/kubernetes/pkg/controller/certificates/rootcacertpublisher"
	"k8s.io/kubernetes/pkg/controller/clusterroleaggregation"
	"k8s.io/kubernetes/pkg/controller/cronjob"
	"k8s.io/kubernetes/pkg/controller/daemon"
	"k8s.io/kubernetes/pkg/controller/deployment"
	"k8s.io/kubernetes/pkg/controller/disruption"
	"k8s.io/kubernetes/pkg/controller/garbagecollector"
	"k8s.io/kubernetes/pkg/controller/job"
	"k8s.io/kubernetes/pkg/controller/namespace"
	"k8s.io/kubernetes/pkg/controller/replicaset"
	"k8s.io/kubernetes/pkg/controller/resourcequota"
	"k8s.io/kubernetes/pkg/controller/serviceaccount"
	"k8s.io/kubernetes/pkg/controller/statefulset"
	"k8s.io/kubernetes/pkg/controller/validatingadmissionpolicystatus"
	"k8s.io/kubernetes/pkg/generated/openapi"
	quotainstall "k8s.io/kubernetes/pkg/quota/v1/install"
	tokens "k8s.io/kubernetes/pkg/serviceaccount"
)

const (
	// workers is how many objects each controller works on at once, as in a released kube-controller-manager.
	workers = 5
	// discoveryPeriod is how often kinds are looked for that were not there before. Thirty seconds in a released one.
	discoveryPeriod = 10 * time.Second
	// resyncPeriod is how often informers hand out again what they have. Twelve to twenty-four hours in a released one.
	resyncPeriod = 12 * time.Hour
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "the kubeconfig of an administrator")
	keyFile := flag.String("service-account-private-key-file", "", "the key that signs the tokens of service accounts")
	caFile := flag.String("root-ca-file", "", "the certificate that clients in the cluster trust")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, *kubeconfig, *keyFile, *caFile); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// manager has what controllers are made from.
type manager struct {
	config   *rest.Config
	client   kubernetes.Interface
	metadata metadata.Interface
	shared   informers.SharedInformerFactory
	// every has informers of all kinds, those of custom resources included, as metadata alone.
	every informerfactory.InformerFactory
	// started is closed once the shared informers run: what is added later is started by whoever adds it.
	started chan struct{}
	mapper  *restmapper.DeferredDiscoveryRESTMapper
	running []func(context.Context)
}

func run(ctx context.Context, kubeconfig, keyFile, caFile string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	// One client for all controllers; each has 20 a second of its own in a released program.
	config.QPS, config.Burst = 500, 1000
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	metadataClient, err := metadata.NewForConfig(config)
	if err != nil {
		return err
	}
	shared := informers.NewSharedInformerFactory(client, resyncPeriod)
	m := &manager{
		config:   config,
		client:   client,
		metadata: metadataClient,
		shared:   shared,
		every: informerfactory.NewInformerFactory(
			shared, metadatainformer.NewSharedInformerFactory(metadataClient, resyncPeriod)),
		started: make(chan struct{}),
		mapper:  restmapper.NewDeferredDiscoveryRESTMapper(cacheddiscovery.NewMemCacheClient(client.Discovery())),
	}
	for _, add := range []func(context.Context) error{
		m.workloads,
		m.namespaces,
		func(ctx context.Context) error { return m.serviceAccounts(ctx, keyFile, caFile) },
		m.clusterRoles,
		m.quotas,
		m.disruptionBudgets,
		m.admissionPolicies,
		m.garbage,
	} {
		if err := add(ctx); err != nil {
			return err
		}
	}
	m.every.Start(ctx.Done())
	close(m.started)
	for _, controller := range m.running {
		go controller(ctx)
	}
	<-ctx.Done()
	return nil
}

func (m *manager) add(controller func(context.Context)) {
	m.running = append(m.running, controller)
}

func (m *manager) workloads(ctx context.Context) error {
	apps, batch, core := m.shared.Apps().V1(), m.shared.Batch().V1(), m.shared.Core().V1()
	deployments, err := deployment.NewDeploymentController(
		ctx, apps.Deployments(), apps.ReplicaSets(), core.Pods(), m.client)
	if err != nil {
		return err
	}
	daemonSets, err := daemon.NewDaemonSetsController(
		ctx, apps.DaemonSets(), apps.ControllerRevisions(), core.Pods(), core.Nodes(), m.client,
		flowcontrol.NewBackOff(time.Second, 15*time.Minute))
	if err != nil {
		return err
	}
	jobs, err := job.NewController(ctx, m.client, core.Pods(), batch.Jobs(), nil, nil)
	if err != nil {
		return err
	}
	cronJobs, err := cronjob.NewControllerV2(ctx, batch.Jobs(), batch.CronJobs(), m.client)
	if err != nil {
		return err
	}
	replicaSets := replicaset.NewReplicaSetController(
		ctx, apps.ReplicaSets(), core.Pods(), m.client, replicaset.BurstReplicas)
	statefulSets := statefulset.NewStatefulSetController(
		ctx, core.Pods(), apps.StatefulSets(), core.PersistentVolumeClaims(), apps.ControllerRevisions(), m.client)
	for _, controller := range []interface{ Run(context.Context, int) }{
		deployments, daemonSets, jobs, cronJobs, replicaSets, statefulSets,
	} {
		m.add(func(ctx context.Context) { controller.Run(ctx, workers) })
	}
	return nil
}

func (m *manager) namespaces(ctx context.Context) error {
	controller := namespace.NewNamespaceController(
		ctx, m.client, m.metadata, m.client.Discovery().ServerPreferredNamespacedResources,
		m.shared.Core().V1().Namespaces(), 5*time.Minute, v1.FinalizerKubernetes)
	m.add(func(ctx context.Context) { controller.Run(ctx, workers) })
	return nil
}

func (m *manager) serviceAccounts(ctx context.Context, keyFile, caFile string) error {
	key, err := keyutil.PrivateKeyFromFile(keyFile)
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(caFile)
	if err != nil {
		return err
	}
	generator, err := tokens.JWTTokenGenerator(tokens.LegacyIssuer, key)
	if err != nil {
		return err
	}
	core, logger := m.shared.Core().V1(), klog.FromContext(ctx)
	accounts, err := serviceaccount.NewServiceAccountsController(
		logger, core.ServiceAccounts(), core.Namespaces(), m.client,
		serviceaccount.DefaultServiceAccountsControllerOptions())
	if err != nil {
		return err
	}
	secrets, err := serviceaccount.NewTokensController(
		logger, core.ServiceAccounts(), core.Secrets(), m.client,
		serviceaccount.TokensControllerOptions{TokenGenerator: generator, RootCA: ca})
	if err != nil {
		return err
	}
	publisher, err := rootcacertpublisher.NewPublisher(core.ConfigMaps(), core.Namespaces(), m.client, ca)
	if err != nil {
		return err
	}
	m.add(func(ctx context.Context) { accounts.Run(ctx, 1) })
	m.add(func(ctx context.Context) { secrets.Run(ctx, workers) })
	m.add(func(ctx context.Context) { publisher.Run(ctx, 1) })
	return nil
}

func (m *manager) clusterRoles(context.Context) error {
	controller := clusterroleaggregation.NewClusterRoleAggregation(m.shared.Rbac().V1().ClusterRoles(), m.client.RbacV1())
	m.add(func(ctx context.Context) { controller.Run(ctx, workers) })
	return nil
}

func (m *manager) quotas(ctx context.Context) error {
	discover := m.client.Discovery().ServerPreferredNamespacedResources
	evaluators, err := quotainstall.NewQuotaConfigurationForControllers(
		generic.ListerFuncForResourceFunc(m.shared.ForResource), m.shared)
	if err != nil {
		return err
	}
	controller, err := resourcequota.NewController(ctx, &resourcequota.ControllerOptions{
		QuotaClient:               m.client.CoreV1(),
		ResourceQuotaInformer:     m.shared.Core().V1().ResourceQuotas(),
		ResyncPeriod:              pkgcontroller.StaticResyncPeriodFunc(5 * time.Minute),
		InformerFactory:           m.every,
		ReplenishmentResyncPeriod: func() time.Duration { return resyncPeriod },
		DiscoveryFunc:             discover,
		IgnoredResourcesFunc:      evaluators.IgnoredResources,
		InformersStarted:          m.started,
		Registry:                  generic.NewRegistry(evaluators.Evaluators()),
		UpdateFilter:              quotainstall.DefaultUpdateFilter(),
	})
	if err != nil {
		return err
	}
	m.add(func(ctx context.Context) { controller.Run(ctx, workers) })
	m.add(func(ctx context.Context) { controller.Sync(ctx, discover, discoveryPeriod) })
	return nil
}

func (m *manager) disruptionBudgets(ctx context.Context) error {
	kinds := scale.NewDiscoveryScaleKindResolver(m.client.Discovery())
	scales, err := scale.NewForConfig(m.config, m.mapper, dynamic.LegacyAPIPathResolverFunc, kinds)
	if err != nil {
		return err
	}
	apps, core := m.shared.Apps().V1(), m.shared.Core().V1()
	controller := disruption.NewDisruptionController(
		ctx, core.Pods(), m.shared.Policy().V1().PodDisruptionBudgets(), core.ReplicationControllers(),
		apps.ReplicaSets(), apps.Deployments(), apps.StatefulSets(), m.client, m.mapper, scales, m.client.Discovery())
	m.add(func(ctx context.Context) { controller.Run(ctx, workers) })
	return nil
}

func (m *manager) admissionPolicies(context.Context) error {
	schemas := resolver.NewDefinitionsSchemaResolver(openapi.GetOpenAPIDefinitions, k8sscheme.Scheme, apiextensionsscheme.Scheme).
		Combine(&resolver.ClientDiscoveryResolver{Discovery: m.client.Discovery()})
	controller, err := validatingadmissionpolicystatus.NewController(
		m.shared.Admissionregistration().V1().ValidatingAdmissionPolicies(),
		m.client.AdmissionregistrationV1().ValidatingAdmissionPolicies(),
		&validating.TypeChecker{SchemaResolver: schemas, RestMapper: m.mapper})
	if err != nil {
		return err
	}
	m.add(func(ctx context.Context) { controller.Run(ctx, workers) })
	return nil
}

func (m *manager) garbage(ctx context.Context) error {
	ignored := make(map[schema.GroupResource]struct{})
	for resource := range garbagecollector.DefaultIgnoredResources() {
		ignored[resource] = struct{}{}
	}
	graph := garbagecollector.NewDependencyGraphBuilder(ctx, m.metadata, m.mapper, ignored, m.every, m.started)
	collector, err := garbagecollector.NewComposedGarbageCollector(ctx, m.client, m.metadata, m.mapper, graph)
	if err != nil {
		return err
	}
	var kinds discovery.ServerResourcesInterface = m.client.Discovery()
	m.add(func(ctx context.Context) { collector.Run(ctx, workers, discoveryPeriod) })
	m.add(func(ctx context.Context) { collector.Sync(ctx, kinds, discoveryPeriod) })
	return nil
}
