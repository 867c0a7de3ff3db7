# selftrain for NVIDIA GPUs (the CUDA libraries come with torch) and CPUs.
#     docker build -t selftrain .
#     docker run --gpus all --shm-size=2g -v /data:/data:ro -v /runs:/runs selftrain data=/data/mine.yaml out=/runs/first
FROM python:3.11-slim-bookworm

# g++ compiles the dense CRF
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*

WORKDIR /selftrain
COPY pyproject.toml constraints.txt hatch_build.py README.md LICENSE ./
COPY recipes recipes
COPY selftrain selftrain
RUN pip install --no-cache-dir ".[export,trackers]" --constraint constraints.txt

# Away from the source: the installed package has the compiled CRF.
WORKDIR /runs
ENV PYTHONUNBUFFERED=1
# In this form the run is process 1 and gets SIGTERM itself: it saves its state and ends with 75.
ENTRYPOINT ["python", "-m", "selftrain.run"]
