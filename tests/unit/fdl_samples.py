"""OSCAR services of each shape, written after its documentation and its own reading of them."""
# ruff: noqa: E501 - the files stand whole

PLAIN = """
functions:
  oscar:
  - oscar-cluster:
      name: grayscale
      memory: 1Gi
      cpu: '1.0'
      image: registry.example.org/imagemagick:7
      script: gray.sh
      log_level: DEBUG
      environment:
        Variables:
          QUALITY: '0755'
          RUN_FOR: 00:55:00
          GREETING: '{{ not a template }}'
      input:
      - storage_provider: minio.default
        path: pictures/in
      output:
      - storage_provider: minio.default
        path: pictures/out
        prefix: [gray-]
        suffix: [.png, .jpg]
"""
GPU = """
functions:
  oscar:
  - here:
      name: train
      image: registry.example.org/train
      script: run.sh
      enable_gpu: true
      enable_sgx: true
      ephemeral_storage_request: 10Gi
      total_cpu: '4'
      cpu: '1.5'
      image_pull_secrets: [pull-me]
      labels: {team: vision, oscar_service: train}
      input: [{storage_provider: minio, path: sets}]
      output: [{storage_provider: s3.cloud, path: models/new}]
storage_providers:
  s3:
    cloud: {access_key: AKIATHEIRS, secret_key: s3cr3t-of-cloud, region: eu-central-1}
"""
INTERLINK = """
functions:
  oscar:
    - hpc:
        name: thermal-bridges-on-rooftops-by-drone
        image: docker://registry.example.org/thermal
        script: thermal.sh
        interlink_node_name: vega-vk
        annotations:
          slurm-job.vk.io/flags: --time=02:30:00 --nodes=1
        input: [{storage_provider: minio.default, path: thermal/in}]
        output: [{storage_provider: minio.default, path: thermal/out}]
"""
EXPOSE = """
functions:
  oscar:
  - c:
      name: lab
      image: registry.example.org/notebook
      script: start.sh
      environment: {Variables: {JUPYTER_TOKEN: root-token}}
      expose: {min_scale: 1, max_scale: 1, api_port: 8888, cpu_threshold: 90, rewrite_target: true, nodePort: [30500]}
"""
MOUNT = """
functions:
  oscar:
  - c:
      name: mounted
      image: registry.example.org/x
      script: x.sh
      input: [{storage_provider: minio, path: mounted/in}]
      mount: {storage_provider: minio, path: mounted/middle, options: --read-only}
"""
VOLUME = """
functions:
  oscar:
  - c:
      name: counter
      image: registry.example.org/x
      script: x.sh
      volume: {size: 1Gi, mount_path: /data, lifecycle_policy: retain}
"""
RUCIO = """
functions:
  oscar:
  - c:
      name: from-rucio
      image: registry.example.org/x
      script: x.sh
      input: [{storage_provider: rucio.desy, path: a/b}]
      output: [{storage_provider: minio.default, path: a/out}]
storage_providers:
  rucio:
    desy: {host: rucio.example.org, account: me, rse: DESY, refresh_token: r3fresh-me, auth_host: auth.example.org}
"""
WEBDAV = """
functions:
  oscar:
  - c:
      name: from-dcache
      image: registry.example.org/x
      script: x.sh
      input: [{storage_provider: webdav.dcache, path: /data/raw/}]
      output: [{storage_provider: webdav.dcache, path: data/done}, {storage_provider: onedata.one, path: o}]
storage_providers:
  webdav:
    dcache: {hostname: dcache.example.org, login: alice, password: d0or-key}
"""
FEDERATION = """
functions:
  oscar:
  - eu:
      name: shared
      image: registry.example.org/x
      script: x.sh
      delegation: static
      rescheduler_threshold: 30
      replicas: [{type: oscar, cluster_id: us, service_name: shared}]
      federation:
        topology: star
        members: [{type: endpoint, url: "https://other.example.org", headers: {Authorization: b3arer}}]
      input: [{storage_provider: minio, path: shared/in}]
  - us:
      name: shared
      image: registry.example.org/x
      script: x.sh
      input: [{storage_provider: minio, path: shared/in}]
clusters:
  us: {endpoint: "https://us.example.org", auth_user: admin, auth_password: adm1n-pass, ssl_verify: true}
"""
KSERVE = """
functions:
  oscar:
  - c:
      name: model
      image: registry.example.org/curl
      script: ask.sh
      kserve: {type: inference, inference: {model_format: sklearn}, storage_uri: "gs://models/iris", min_scale: 1}
      input: [{storage_provider: minio, path: model/in}]
  - c:
      name: llm
      image: ubuntu
      kserve: {type: llm_inference, storage_uri: "oci://models/q"}
"""
SYNCHRONOUS = """
functions:
  oscar:
  - c:
      name: answer
      image: registry.example.org/x
      script: |
        #!/bin/sh
        cat "$INPUT_FILE_PATH" "$TMP_INPUT_DIR"/*; echo $RESOURCE_ID $JOB_UUID $OSCAR_SERVICE_TOKEN
      synchronous: {min_scale: 1, max_scale: 5}
      environment:
        secrets: {API: s3cret-api}
        variables: {DATABASE_URL: 'postgres://me:pa55word@db/x', MAX_TOKENS: 5, AWS_SECRET_ACCESS_KEY: aws-s3cret}
"""
API = """
[{"name": "from-api", "cluster_id": "c", "memory": "256Mi", "cpu": "0.2", "enable_gpu": false, "image": "x",
  "script": "#!/bin/sh\\r\\necho \\"$STORAGE_OBJECT_KEY\\"\\r\\n", "token": "0123456789abcdef-token", "owner": "cluster_admin",
  "expose": {"min_scale": 0, "api_port": null}, "synchronous": {"min_scale": 0, "max_scale": 0}, "annotations": {},
  "input": [{"storage_provider": "minio.default", "path": "api/in"}],
  "output": [{"storage_provider": "minio.default", "path": "api/out"}],
  "isolation_level": "USER", "bucket_list": ["api-0123456789"],
  "storage_providers": {"minio": {"default": {"endpoint": "https://minio.example.org", "verify": false,
    "access_key": "hidden", "secret_key": "hidden", "region": "us-east-1"}}}}]
"""
SHAPES = {
    "plain": PLAIN,
    "gpu": GPU,
    "interlink": INTERLINK,
    "expose": EXPOSE,
    "mount": MOUNT,
    "volume": VOLUME,
    "rucio": RUCIO,
    "webdav": WEBDAV,
    "federation": FEDERATION,
    "kserve": KSERVE,
    "synchronous": SYNCHRONOUS,
    "api": API,
}
SECRETS = [
    "s3cr3t-of-cloud",
    "AKIATHEIRS",
    "root-token",
    "r3fresh-me",
    "d0or-key",
    "b3arer",
    "adm1n-pass",
    "s3cret-api",
    "pa55word",
    "aws-s3cret",
    "0123456789abcdef-token",
]
"""What must never be seen in a configuration or a report."""
