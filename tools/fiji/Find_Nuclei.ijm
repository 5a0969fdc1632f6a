// Finds nuclei in the open image, or in each plane of the open stack: ROIs and a table of measurements.
// Fiji: Plugins > Macros > Run...   More: docs/OUTPUTS.md of unet_sharp_det.

// The command; with its folder where Fiji does not find it: "/home/me/unet_sharp_det/.venv/bin/unet-sharp-det"
command = "unet-sharp-det";
// Options of `unet-sharp-det predict`: a model's name or file; the factor to resize by, or auto, by which the sizes
// of the nuclei choose it; the least score; and of an image with channels the one that is looked at, from 0.
weights = "nuclei";
scale = "auto";
score = "0.5";
channel = "0";

if (getArgument() != "") command = getArgument();
if (nImages == 0) exit("There is no image. Open one first.");
image = getImageID();
getDimensions(width, height, channels, slices, frames);
folder = getDirectory("temp") + "unet_sharp_det_" + d2s(getTime(), 0) + File.separator;
File.makeDirectory(folder);

// A copy is saved: the image keeps its name and its file, from which it may differ.
run("Select None");
run("Duplicate...", "title=image duplicate");
saveAs("Tiff", folder + "image.tif");
close();
selectImage(image);

input = folder + "image.tif";
output = folder + "results";
if (channels > 1)
	exec(command, "predict", input, "--output", output, "--outputs", "rois", "--weights", weights,
		"--scale", scale, "--score-threshold", score, "--channels", channel);
else
	exec(command, "predict", input, "--output", output, "--outputs", "rois", "--weights", weights,
		"--scale", scale, "--score-threshold", score);

// Each plane has an archive; the ROIs in it know their plane.
roiManager("reset");
planes = 0;
if (File.isDirectory(output)) {
	files = getFileList(output);
	for (i = 0; i < files.length; i++) {
		if (endsWith(files[i], "_rois.zip")) {
			planes++;
			bytes = parseInt("" + File.length(output + File.separator + files[i])); // a text in some versions
			if (bytes > 22) roiManager("open", output + File.separator + files[i]); // else there is no ROI in it
		}
	}
}
if (planes < slices * frames)
	exit("unet-sharp-det did " + planes + " of " + slices * frames + " planes. To see why, type in a terminal:\n"
		+ command + " predict " + input + " --output " + output + " --outputs rois --weights " + weights);
if (roiManager("count") > 0) {
	run("Set Measurements...", "area mean standard min centroid perimeter shape stack display redirect=None decimal=3");
	if (channels > 1) Stack.setChannel(parseInt(channel) + 1); // which is measured
	roiManager("deselect");
	roiManager("measure");
	roiManager("show all");
}
showStatus(roiManager("count") + " objects in " + planes + " planes; their files: " + folder);
